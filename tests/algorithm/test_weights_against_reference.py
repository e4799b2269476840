"""Visual advantage, rollout weights and token weights against plain loops on random batches."""

import random

import pytest
import torch

from verl_vaopd.algorithm import (
    mean_visual_advantage,
    opd_token_weights,
    rollout_weights,
    token_weights,
    visual_advantage,
)

from . import reference

CASES = range(300)
FRACTIONS = [(1, 5), (7, 100), (1, 10), (1, 2), (3, 10), (9, 10), (99, 100)]


def coefficients(original, pixelated, mask, prompt_ids, **settings):
    va = visual_advantage(original, pixelated, mask)
    return token_weights(va, mask, rollout_weights(mean_visual_advantage(va, mask), prompt_ids), **settings)


def test_every_quantity_equals_the_reference():
    for seed in CASES:
        original, pixelated, mask, prompt_ids = reference.random_case(seed)
        rng = random.Random(seed)
        numerator, denominator = rng.choice(FRACTIONS)
        high_weight, temperature = rng.choice([0.5, 0.1, 0.9]), rng.choice([1.0, 0.3, 5.0])
        eps = 10 ** -rng.randint(2, 8)

        va = visual_advantage(original, pixelated, mask)
        expected = reference.visual_advantage(original.tolist(), pixelated.tolist(), mask.tolist())
        torch.testing.assert_close(va, torch.tensor(expected), rtol=1e-6, atol=1e-7)

        mean = mean_visual_advantage(va, mask)
        expected = reference.mean_visual_advantage(va.tolist(), mask.tolist())
        torch.testing.assert_close(mean, torch.tensor(expected), rtol=1e-6, atol=0)

        weights = rollout_weights(mean, prompt_ids, temperature, eps)
        expected = reference.rollout_weights(mean.tolist(), prompt_ids, temperature, eps)
        torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-6, atol=1e-12)

        per_token = token_weights(va, mask, weights, numerator / denominator, high_weight)
        expected = reference.token_weights(
            va.tolist(), mask.tolist(), weights.tolist(), numerator, denominator, high_weight
        )
        torch.testing.assert_close(per_token, torch.tensor(expected), rtol=1e-6, atol=0)

        expected = reference.opd_token_weights(mask.tolist(), prompt_ids)
        torch.testing.assert_close(opd_token_weights(mask, prompt_ids), torch.tensor(expected), rtol=1e-6, atol=0)


def test_weights_sum_to_one_over_a_prompt_and_to_w_over_a_rollout():
    for seed in CASES:
        original, pixelated, mask, prompt_ids = reference.random_case(seed)
        va = visual_advantage(original, pixelated, mask)
        weights = rollout_weights(mean_visual_advantage(va, mask), prompt_ids)
        per_token = token_weights(va, mask, weights)
        torch.testing.assert_close(per_token.sum(dim=1), weights, rtol=1e-5, atol=0)
        for of_vaopd_or_opd in (per_token, opd_token_weights(mask, prompt_ids)):
            assert of_vaopd_or_opd.sum().item() == pytest.approx(len(set(prompt_ids)), rel=1e-5)
            assert not of_vaopd_or_opd[mask == 0].any()


def test_shuffling_rollouts_shuffles_the_coefficients():
    for seed in CASES:
        original, pixelated, mask, prompt_ids = reference.random_case(seed)
        order = torch.randperm(len(prompt_ids), generator=torch.Generator().manual_seed(seed))
        shuffled = coefficients(original[order], pixelated[order], mask[order], [prompt_ids[i] for i in order])
        torch.testing.assert_close(
            shuffled, coefficients(original, pixelated, mask, prompt_ids)[order], rtol=1e-6, atol=0
        )


def test_other_prompts_in_the_batch_change_nothing():
    for seed in CASES:
        original, pixelated, mask, prompt_ids = reference.random_case(seed)
        alone = torch.tensor([prompt == prompt_ids[0] for prompt in prompt_ids])
        torch.testing.assert_close(
            coefficients(original[alone], pixelated[alone], mask[alone], [prompt_ids[0]] * int(alone.sum())),
            coefficients(original, pixelated, mask, prompt_ids)[alone],
            rtol=0,
            atol=0,
        )


def test_padding_columns_change_nothing_whatever_they_hold():
    for seed in CASES:
        original, pixelated, mask, prompt_ids = reference.random_case(seed)
        rows, columns = mask.shape
        junk = torch.full((rows, 5), torch.nan)
        padded = coefficients(
            torch.cat([original, junk], dim=1),
            torch.cat([pixelated, -junk], dim=1),
            torch.cat([mask, torch.zeros(rows, 5, dtype=mask.dtype)], dim=1),
            prompt_ids,
        )
        torch.testing.assert_close(
            padded[:, :columns], coefficients(original, pixelated, mask, prompt_ids), rtol=1e-6, atol=0
        )
        assert not padded[:, columns:].any()
