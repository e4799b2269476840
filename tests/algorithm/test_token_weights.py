import pytest
import torch

from verl_vaopd.algorithm import (
    high_token_counts,
    high_va_mask,
    opd_token_weights,
    token_weights,
    uniform_rollout_weights,
    uniform_token_weights,
)


def test_worked_example():
    # 5 tokens, p_v 0.2: |V| = 1 (the third), |L| = 4; w = 0.8, lambda = 0.75
    # high 0.8 * 0.75 / 1 = 0.6, low 0.8 * 0.25 / 4 = 0.05
    weights = token_weights(
        torch.tensor([[0.0, 1.0, 3.0, 0.5, 0.0, 9.0]]),
        torch.tensor([[1, 1, 1, 1, 1, 0]]),
        torch.tensor([0.8]),
        high_weight=0.75,
    )
    torch.testing.assert_close(weights, torch.tensor([[0.05, 0.05, 0.6, 0.05, 0.05, 0.0]]))


def test_ties_go_to_the_earlier_token():
    # all equal: ceil(0.5 * 3) = 2 high ones are the first two on the mask, columns 0 and 2
    high = high_va_mask(torch.zeros(1, 4), torch.tensor([[1, 0, 1, 1]]), 0.5)
    assert high.tolist() == [[True, False, True, False]]


def test_ties_go_to_the_earlier_token_in_a_long_response():
    # an unstable sort gives itself away on long rows: 2 * 300 + 200 / 2 of value 1 lead, then zeros in token order
    va = torch.zeros(1, 5000)
    va[0, 4000] = 1.0
    high = high_va_mask(va, torch.ones(1, 5000), 0.2)
    # ceil(0.2 * 5000) = 1000: column 4000, then columns 0 .. 998
    assert high[0].nonzero().squeeze(1).tolist() == [*range(999), 4000]


@pytest.mark.parametrize(
    "fraction, length, count",
    [
        (0.2, 5, 1),
        (0.2, 6, 2),  # ceil(1.2)
        (0.07, 100, 7),  # 7.000000000000001 in floating point
        (0.28, 25, 7),  # 7.000000000000001 too
        (0.1, 30, 3),
        (0.1, 31, 4),
        (0.2, 4096, 820),  # ceil(819.2)
        (0.99, 3, 3),
        (1e-12, 1, 1),
        (0.999, 1, 1),
    ],
)
def test_size_of_the_high_group(fraction, length, count):
    assert high_token_counts(torch.tensor([length]), fraction).tolist() == [count]
    assert high_va_mask(torch.arange(float(length))[None], torch.ones(1, length), fraction).sum() == count


def test_size_of_the_high_group_is_exact_for_every_percentage_and_length():
    lengths = torch.arange(1, 4097)
    for percent in range(1, 100):
        assert torch.equal(high_token_counts(lengths, percent / 100), -(-percent * lengths // 100))


def test_without_a_low_group_the_high_group_has_all_the_mass():
    # one token: w; three tokens, ceil(0.9 * 3) = 3 high: w / 3 each, whatever lambda
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    weights = token_weights(torch.rand(2, 3), mask, torch.tensor([0.4, 0.6]), high_fraction=0.9, high_weight=0.1)
    torch.testing.assert_close(weights, torch.tensor([[0.4, 0.0, 0.0], [0.2, 0.2, 0.2]]))


def test_off_the_mask_nan_is_ignored():
    weights = token_weights(torch.tensor([[1.0, float("nan")]]), torch.tensor([[1, 0]]), torch.ones(1))
    assert weights.tolist() == [[1.0, 0.0]]


def test_both_switches_off_is_standard_opd():
    # a has rollouts of 2 and 3 tokens: 1 / (2 * 2) and 1 / (2 * 3); b has one of 1 token: 1
    mask = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 1]])
    ids = ["a", "b", "a"]
    expected = torch.tensor([[1 / 4, 1 / 4, 0], [0, 1, 0], [1 / 6, 1 / 6, 1 / 6]])
    torch.testing.assert_close(opd_token_weights(mask, ids), expected)
    assert torch.equal(uniform_token_weights(mask, uniform_rollout_weights(ids)), opd_token_weights(mask, ids))


def test_groups_off_keeps_the_rollout_weight():
    # w = 0.9 over 2 tokens and 0.1 over 1
    weights = uniform_token_weights(torch.tensor([[1, 1], [0, 1]]), torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(weights, torch.tensor([[0.45, 0.45], [0.0, 0.1]]))


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["high_fraction", "high_weight"])
def test_refuses_fractions_outside_the_open_interval(name, value):
    with pytest.raises(ValueError, match=f"{name} must lie strictly between 0 and 1"):
        token_weights(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1), **{name: value})


def test_refuses_scores_of_another_shape():
    with pytest.raises(ValueError, match="va has shape"):
        token_weights(torch.ones(1, 3), torch.ones(1, 2), torch.ones(1))


def test_refuses_a_score_that_is_not_finite():
    with pytest.raises(ValueError, match="va is not finite.*row 0"):
        token_weights(torch.tensor([[1.0, float("inf")]]), torch.ones(1, 2), torch.ones(1))


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0], "rollout_weights has shape"),
        ([1.0, float("nan")], "rollout_weights is not finite.*row 1"),
        ([0.5, -0.5], "rollout_weights is negative in row 1"),
    ],
)
def test_refuses_rollout_weights_that_are_none(weights, message):
    with pytest.raises(ValueError, match=message):
        token_weights(torch.ones(2, 2), torch.ones(2, 2), torch.tensor(weights))
    with pytest.raises(ValueError, match=message):
        uniform_token_weights(torch.ones(2, 2), torch.tensor(weights))


def test_refuses_an_empty_response():
    mask = torch.tensor([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="row 1 has no token"):
        token_weights(torch.ones(2, 2), mask, torch.ones(2))
    with pytest.raises(ValueError, match="row 1 has no token"):
        opd_token_weights(mask, [0, 0])
