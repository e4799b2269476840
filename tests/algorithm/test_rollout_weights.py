import math

import pytest
import torch

from verl_vaopd.algorithm import rollout_weights, uniform_rollout_weights


def test_worked_example_with_population_deviation():
    # prompt a: means 1 and 3, mu 2, population sigma 1, z = -1 and +1 (eps 1e-6 moves them by 1e-6)
    # w = e^1 / (e^1 + e^-1) = 1 / (1 + e^-2) = 0.880797 and 0.119203
    # (the sample deviation, 1.414, would give 1 / (1 + e^-1.414) = 0.8044)
    weights = rollout_weights(torch.tensor([1.0, 7.0, 3.0]), ["a", "b", "a"])
    torch.testing.assert_close(weights, torch.tensor([0.119203, 1.0, 0.880797]), rtol=0, atol=2e-6)


def test_worked_example_with_temperature_and_eps():
    # mu 2, sigma 1, eps 1: z = -0.5 and 0.5; tau 0.5: exponents -1 and 1, so again 1 / (1 + e^-2)
    weights = rollout_weights(torch.tensor([1.0, 3.0]), [0, 0], temperature=0.5, eps=1.0)
    torch.testing.assert_close(weights[1].item(), 1 / (1 + math.exp(-2)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("siblings", [1, 2, 3, 7])
def test_equal_means_weigh_exactly_the_same(siblings):
    weights = rollout_weights(torch.full((siblings,), 0.1), ["p"] * siblings)
    assert weights.tolist() == uniform_rollout_weights(["p"] * siblings).tolist()


def test_a_tiny_temperature_does_not_overflow():
    # all weight on the larger
    assert rollout_weights(torch.tensor([0.0, 1.0]), [0, 0], temperature=1e-6).tolist() == [0.0, 1.0]


def test_result_is_detached_float32():
    weights = rollout_weights(torch.ones(2, dtype=torch.float64, requires_grad=True), [(1, "x"), (1, "x")])
    assert weights.dtype == torch.float32 and not weights.requires_grad


def test_uniform_weights_of_unequal_groups():
    # a has 3 siblings, b 1
    assert uniform_rollout_weights(["a", "b", "a", "a"]).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["temperature", "eps"])
def test_refuses_temperature_and_eps_that_are_not_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number above 0"):
        rollout_weights(torch.ones(2), [0, 0], **{name: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_a_mean_that_is_not_finite(value):
    with pytest.raises(ValueError, match="mean_va is not finite.*row 1"):
        rollout_weights(torch.tensor([0.0, value]), [0, 0])


def test_refuses_another_number_of_ids():
    with pytest.raises(ValueError, match="prompt_ids holds 3 ids for 2 rollouts"):
        rollout_weights(torch.ones(2), [0, 0, 0])


def test_refuses_a_matrix_of_means():
    with pytest.raises(ValueError, match="mean_va must be"):
        rollout_weights(torch.ones(2, 1), [0, 0])


@pytest.mark.parametrize("ids, message", [(torch.tensor([1, 1]), "is a tensor"), ([1, [1]], r"prompt_ids\[1\].*list")])
def test_refuses_ids_that_do_not_hash_by_value(ids, message):
    with pytest.raises(ValueError, match=message):
        rollout_weights(torch.ones(2), ids)
    with pytest.raises(ValueError, match=message):
        uniform_rollout_weights(ids)
