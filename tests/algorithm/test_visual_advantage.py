import pytest
import torch

from verl_vaopd.algorithm import mean_visual_advantage, visual_advantage

NAN, INF = float("nan"), float("inf")


def test_worked_example():
    # original - pixelated: -1 - -3 = 2;  -2 - -1 = -1, rectified to 0;  the third token is off the mask
    va = visual_advantage(
        torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-3.0, -1.0, -9.0]]), torch.tensor([[1, 1, 0]])
    )
    assert va.tolist() == [[2.0, 0.0, 0.0]]
    # (2 + 0) / 2 tokens
    assert mean_visual_advantage(va, torch.tensor([[1, 1, 0]])).tolist() == [1.0]


def test_off_the_mask_nan_and_infinity_are_ignored():
    mask = torch.tensor([[True, False, False]])
    va = visual_advantage(torch.tensor([[-1.0, NAN, INF]]), torch.tensor([[-2.0, -INF, NAN]]), mask)
    assert va.tolist() == [[1.0, 0.0, 0.0]]
    assert mean_visual_advantage(torch.tensor([[3.0, NAN, INF]]), mask).tolist() == [3.0]


def test_result_is_float32_and_detached():
    scores = torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
    va = visual_advantage(scores, scores, torch.ones(1, 2))
    assert va.dtype == torch.float32 and not va.requires_grad
    assert mean_visual_advantage(va, torch.ones(1, 2)).dtype == torch.float32


def test_bfloat16_scores_are_subtracted_in_float32():
    # -0.0078125 and -3 are exact in bfloat16; their difference 2.9921875 is not (bfloat16 would give 2.984375 or 3)
    original, pixelated = torch.tensor([[-0.0078125]]).bfloat16(), torch.tensor([[-3.0]]).bfloat16()
    assert visual_advantage(original, pixelated, torch.ones(1, 1)).item() == 2.9921875


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("which", [0, 1])
def test_refuses_a_score_on_the_mask_that_is_not_finite(value, which):
    scores = [torch.zeros(3, 2), torch.zeros(3, 2)]
    scores[which][1, 0] = value
    with pytest.raises(ValueError, match=f"{('logp_original', 'logp_pixelated')[which]} is not finite.*row 1"):
        visual_advantage(*scores, torch.ones(3, 2))
    with pytest.raises(ValueError, match="va is not finite.*row 1"):
        mean_visual_advantage(scores[which], torch.ones(3, 2))


@pytest.mark.parametrize("shapes", [((2, 3), (2, 2), (2, 3)), ((2, 2), (2, 3), (2, 3)), ((3, 2), (3, 2), (2, 3))])
def test_refuses_shapes_that_differ(shapes):
    original, pixelated, mask = (torch.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"has shape \[\d, \d\], but response_mask asks for \[2, 3\]"):
        visual_advantage(original, pixelated, mask)


def test_mean_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match="va has shape"):
        mean_visual_advantage(torch.ones(2, 2), torch.ones(2, 3))


def test_refuses_an_empty_response():
    mask = torch.tensor([[1, 0], [0, 1], [0, 0]])
    with pytest.raises(ValueError, match="response_mask row 2 has no token"):
        visual_advantage(torch.zeros(3, 2), torch.zeros(3, 2), mask)
    with pytest.raises(ValueError, match="response_mask row 2 has no token"):
        mean_visual_advantage(torch.zeros(3, 2), mask)


@pytest.mark.parametrize("value", [0.5, 2.0, NAN])
def test_refuses_a_mask_that_is_not_of_zeros_and_ones(value):
    with pytest.raises(ValueError, match="other than 0 and 1 in row 0"):
        mean_visual_advantage(torch.zeros(1, 2), torch.tensor([[1.0, value]]))


def test_refuses_a_mask_of_one_dimension():
    with pytest.raises(ValueError, match="response_mask must be"):
        mean_visual_advantage(torch.zeros(2), torch.ones(2))


def test_the_mean_of_equal_values_is_that_value_at_any_length():
    # a sum in float32 is off by roundings that differ with the length, and siblings that are equal would not be
    mask = torch.arange(4096) < torch.tensor([[4096], [1001], [3], [1]])
    va = torch.full((4, 4096), 0.1)
    assert mean_visual_advantage(va, mask).tolist() == [va[0, 0].item()] * 4
