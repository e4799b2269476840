"""Groups by mass as a method: what it weighs by, its control, what it refuses."""

import pytest
import torch

from tests.methods.test_weights import IDS, MASK, PROMPTS, config, scores, weigh
from verl_vaopd.algorithm import high_mass_mask
from verl_vaopd.checks.start import check_settings
from verl_vaopd.settings.compose import compose
from verl_vaopd.settings.of_methods import MassConfig

REQUIRED = ["actor_rollout_ref.model.path=s", "vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]


def mass(**settings):
    own = {name: settings.pop(name) for name in ("share", "tokens") if name in settings}
    return config(method="vaopd_mass", mass=MassConfig(**own), **settings)


def test_coefficients_by_hand():
    # one prompt, one rollout, gains 4, 0, 0, 1: 0.8 of 5 is the first token alone, which gets half
    original = torch.tensor([[-1.0, -1.0, -1.0, -1.0]])
    pixelated = torch.tensor([[-5.0, -1.0, -1.0, -2.0]])
    result = weigh(original, pixelated, torch.ones(1, 4), ["a"], mass(share=0.8))
    assert result.coefficients[0].tolist() == pytest.approx([0.5, 0.5 / 3, 0.5 / 3, 0.5 / 3])
    assert result.high_va.int().tolist() == [[1, 0, 0, 0]]
    assert result.metrics["weights/high_fraction"] == 0.25
    # at 0.9 the second of them is needed too: 5 >= 4.5
    wider = weigh(original, pixelated, torch.ones(1, 4), ["a"], mass())
    assert wider.coefficients[0].tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("score", ["sampled", "distribution"])
def test_all_but_the_groups_is_vaopds(score):
    original, pixelated = scores()
    view_kl = scores(seed=1)[0].abs()
    own = weigh(original, pixelated, MASK, PROMPTS, mass(score=score), view_kl=view_kl)
    papers = weigh(original, pixelated, MASK, PROMPTS, config(score=score), view_kl=view_kl)
    assert torch.equal(own.rollout_weights, papers.rollout_weights) and torch.equal(own.va, papers.va)
    by = view_kl if score == "distribution" else own.va
    assert torch.equal(own.high_va, high_mass_mask(by, MASK, 0.9))
    assert not torch.equal(own.coefficients, papers.coefficients)
    torch.testing.assert_close(own.coefficients.sum(1), own.rollout_weights / 2)  # two prompts


def test_the_control_has_as_many_random_tokens():
    original, pixelated = scores()
    by_score = weigh(original, pixelated, MASK, PROMPTS, mass(share=0.5))
    control = weigh(original, pixelated, MASK, PROMPTS, mass(share=0.5, tokens="random"), rollout_ids=IDS)
    assert torch.equal(control.high_va.sum(1), by_score.high_va.sum(1))
    assert not torch.equal(control.high_va, by_score.high_va)
    assert torch.equal(control.rollout_weights, by_score.rollout_weights)


def test_a_rollout_without_score_weighs_as_in_standard_opd():
    same = scores()[0]
    result = weigh(same, same, MASK, PROMPTS, mass())
    assert not result.high_va.any()
    torch.testing.assert_close(result.coefficients, weigh(same, same, MASK, PROMPTS, config(method="opd")).coefficients)


def test_settings_and_refusals():
    with pytest.raises(ValueError, match="vaopd.mass.share=1: a number between 0 and 1"):
        mass(share=1)
    with pytest.raises(ValueError, match="vaopd.mass.tokens='some'"):
        mass(tokens="some")
    overrides = [*REQUIRED, "vaopd.method=vaopd_mass", "vaopd.output_dir=o"]
    for refused in ("vaopd.token_grouping=false", "vaopd.degraded_view=false"):
        with pytest.raises(ValueError, match=refused.split("=")[0]):
            check_settings(compose("tiny_cpu", [*overrides, refused]))
    check_settings(compose("tiny_cpu", overrides))
