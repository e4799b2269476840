"""What the driver computes: switches, scale, loud failures."""

import pytest
import torch

from verl_vaopd.trainer.coefficients import compute_coefficients, va_statistics
from verl_vaopd.trainer.config import TeacherConfig, VAOPDConfig
from verl_vaopd.trainer.trainer import sibling_spread

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
PROMPTS = ["a", "a", "b", "b"]


def config(**settings):
    return VAOPDConfig(teacher=TeacherConfig(path="x"), output_dir="x", **settings)


def scores(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(2, *MASK.shape, generator=generator)


@pytest.mark.parametrize("settings", [{}, {"method": "opd"}, {"rollout_weighting": False}, {"token_grouping": False}])
def test_coefficients_sum_to_one_over_the_batch(settings):
    result = compute_coefficients(*scores(), MASK, PROMPTS, config(**settings))
    assert result.coefficients.sum() == pytest.approx(1.0, rel=1e-6)  # each of the two prompts holds a half
    assert result.coefficients[:2].sum() == pytest.approx(0.5, rel=1e-6)
    assert not result.coefficients[~MASK].any()


def test_both_components_off_is_standard_opd():
    off = compute_coefficients(*scores(), MASK, PROMPTS, config(rollout_weighting=False, token_grouping=False))
    opd = compute_coefficients(*scores(), MASK, PROMPTS, config(method="opd"))
    assert torch.allclose(off.coefficients, opd.coefficients, atol=1e-8)
    # Eq. 1 by hand: 2 prompts, 2 rollouts each, the first of 5 tokens: 1 / (2 * 2 * 5).
    assert opd.coefficients[0].tolist() == pytest.approx([0.05] * 5)


def test_each_component_changes_the_coefficients():
    full = compute_coefficients(*scores(), MASK, PROMPTS, config()).coefficients
    for switch in ("rollout_weighting", "token_grouping"):
        assert not torch.allclose(
            full, compute_coefficients(*scores(), MASK, PROMPTS, config(**{switch: False})).coefficients
        )


def test_all_zero_va_is_loud():
    same = scores()[0]
    with pytest.raises(ValueError, match="visual advantage of all 11 tokens"):
        compute_coefficients(same, same, MASK, PROMPTS, config())
    one_view = compute_coefficients(same, same, MASK, PROMPTS, config(method="opd", degraded_view=False))
    assert one_view.coefficients.sum() == pytest.approx(1.0)  # nothing was degraded: nothing to be loud about
    allowed = compute_coefficients(same, same, MASK, PROMPTS, config(allow_zero_va=True))
    assert allowed.coefficients.sum() == pytest.approx(1.0)


def test_score_that_is_not_finite_is_loud():
    original, pixelated = scores()
    original[2, 1] = float("nan")
    with pytest.raises(ValueError, match="2"):
        compute_coefficients(original, pixelated, MASK, PROMPTS, config())


def test_statistics_by_hand():
    va = torch.zeros(4, 5)
    va[0, 0], va[2, 1] = 3.0, 1.0  # 11 tokens; the top 10% are ceil(1.1) = 2 tokens and hold everything
    assert va_statistics(va, MASK) == {"va/mean": pytest.approx(4 / 11), "va/top10_share": pytest.approx(1.0)}
    assert sibling_spread(torch.tensor([0.7, 0.3, 0.5, 0.5]), PROMPTS) == pytest.approx((0.4 + 0.0) / 2)
