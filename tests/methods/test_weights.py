"""From scores to one weight per token, by method: switches, scale, loud failures."""

from types import SimpleNamespace

import pytest
import torch

from tests.algorithm.reference import random_case
from verl_vaopd.algorithm import masked_tokens
from verl_vaopd.methods import Step, method_of
from verl_vaopd.methods.interface.distillation import sibling_spread
from verl_vaopd.methods.interface.scores import va_statistics
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
PROMPTS = ["a", "a", "b", "b"]


def config(**settings):
    return VAOPDConfig(teacher=TeacherConfig(path="x"), output_dir="x", **settings)


def scores(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(2, *MASK.shape, generator=generator)


IDS = [bytes([row]) for row in range(4)]


def weigh(original, pixelated, mask, prompts, config, view_kl=None, rollout_ids=()) -> SimpleNamespace:
    """What the run's method makes of the teacher's two scores; with a distribution score, of ``view_kl``."""
    columns = {"logp_original": original, "logp_pixelated": pixelated}
    if config.score == "distribution":
        columns = {"view_kl": view_kl, "view_gain": original - pixelated}
    result = method_of(config).weigh(Step(columns, mask.bool(), prompts, None, lambda: list(rollout_ids)))
    return SimpleNamespace(
        coefficients=result.student["token_weights"],
        high_va=result.student["high_va"],
        va=result.evidence.va,
        rollout_weights=result.per_rollout["rollout_weight"],
        metrics=result.metrics,
    )


@pytest.mark.parametrize("settings", [{}, {"method": "opd"}, {"rollout_weighting": False}, {"token_grouping": False}])
def test_coefficients_sum_to_one_over_the_batch(settings):
    result = weigh(*scores(), MASK, PROMPTS, config(**settings))
    assert result.coefficients.sum() == pytest.approx(1.0, rel=1e-6)  # each of the two prompts holds a half
    assert result.coefficients[:2].sum() == pytest.approx(0.5, rel=1e-6)
    assert not result.coefficients[~MASK].any()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("score", ["sampled", "distribution"])
def test_both_components_off_is_standard_opd(seed, score):
    """Whatever prompts, siblings, lengths and scores: no rollout weights and no groups is Eq. 1."""
    original, pixelated, mask, prompts = random_case(seed)
    given = dict(mask=mask, prompts=prompts, view_kl=pixelated.abs())
    off, opd = (
        weigh(original, pixelated, **given, config=config(score=score, allow_zero_va=True, **settings))
        for settings in (dict(rollout_weighting=False, token_grouping=False), dict(method="opd"))
    )
    assert torch.allclose(off.coefficients, opd.coefficients, rtol=1e-6, atol=0)


def test_standard_opd_by_hand():
    opd = weigh(*scores(), MASK, PROMPTS, config(method="opd"))
    # Eq. 1 by hand: 2 prompts, 2 rollouts each, the first of 5 tokens: 1 / (2 * 2 * 5).
    assert opd.coefficients[0].tolist() == pytest.approx([0.05] * 5)


def test_each_component_changes_the_coefficients():
    full = weigh(*scores(), MASK, PROMPTS, config()).coefficients
    for switch in ("rollout_weighting", "token_grouping"):
        assert not torch.allclose(full, weigh(*scores(), MASK, PROMPTS, config(**{switch: False})).coefficients)


@pytest.mark.parametrize("choice", ["random", "lowest_va", "highest_va"])
def test_masking_removes_exactly_the_tokens_asked_for(choice):
    opd = weigh(*scores(), MASK, PROMPTS, config(method="opd"))
    settings = config(method="opd", mask_tokens=choice, mask_fraction=0.4)
    masked = weigh(*scores(), MASK, PROMPTS, settings, rollout_ids=IDS)
    left_out = masked_tokens(choice, opd.va, MASK, IDS, 0.4, seed=42)
    assert left_out.sum(dim=1).tolist() == [2, 1, 2, 1]  # ceil(0.4 * 5, 2, 3, 1)
    assert torch.equal(masked.coefficients, opd.coefficients * ~left_out)  # nothing else changes, nothing is rescaled


def test_masking_everything_is_loud():
    one = torch.ones(2, 1)
    settings = config(method="opd", mask_tokens="highest_va")
    with pytest.raises(ValueError, match="leaves no token"):
        weigh(-one, -2 * one, one, ["a", "a"], settings, rollout_ids=IDS[:2])


def test_distribution_score_drives_weights_and_groups_and_keeps_eq_2_beside():
    original, pixelated = scores()
    view_kl = scores(seed=1)[0].abs()
    plain = weigh(original, pixelated, MASK, PROMPTS, config())
    got = weigh(original, pixelated, MASK, PROMPTS, config(score="distribution"), view_kl=view_kl)
    # A sampled score that equals the KL everywhere gives the same weights and groups.
    as_sampled = weigh(view_kl, torch.zeros_like(view_kl), MASK, PROMPTS, config())
    assert torch.equal(got.coefficients, as_sampled.coefficients) and torch.equal(got.high_va, as_sampled.high_va)
    assert torch.equal(got.va, plain.va) and not torch.equal(got.coefficients, plain.coefficients)


@pytest.mark.parametrize("settings", [{}, {"method": "opd", "degraded_view": False}])
def test_without_any_va_the_coefficients_still_sum_to_one(settings):
    """Whether that is allowed is for trainer/alarms.py to say."""
    same = scores()[0]
    result = weigh(same, same, MASK, PROMPTS, config(**settings))
    assert result.coefficients.sum() == pytest.approx(1.0)


def test_score_that_is_not_finite_is_loud():
    original, pixelated = scores()
    original[2, 1] = float("nan")
    with pytest.raises(ValueError, match="2"):
        weigh(original, pixelated, MASK, PROMPTS, config())


def test_statistics_by_hand():
    va = torch.zeros(4, 5)
    va[0, 0], va[2, 1] = 3.0, 1.0  # 11 tokens; the top 10% are ceil(1.1) = 2 tokens and hold everything
    assert va_statistics(va, MASK) == {"va/mean": pytest.approx(4 / 11), "va/top10_share": pytest.approx(1.0)}
    assert sibling_spread(torch.tensor([0.7, 0.3, 0.5, 0.5]), PROMPTS) == pytest.approx((0.4 + 0.0) / 2)
