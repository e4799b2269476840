"""The coefficient of each token's reverse KL: with it, the loss is a plain weighted sum over tokens (Section 3.2-3.3).

All that couples tokens and siblings is in these numbers. They sum to 1 over the siblings of a prompt; the mean over
prompts (the expectation after Eq. 6) is left to the caller.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_open_fraction, check_shape, checked_mask
from verl_vaopd.algorithm.high_group import high_va_mask
from verl_vaopd.algorithm.rollout_weights import uniform_rollout_weights


def token_weights(
    va: Tensor, response_mask: Tensor, rollout_weights: Tensor, high_fraction: float = 0.2, high_weight: float = 0.5
) -> Tensor:
    """Coefficients of the VA-OPD loss (Eq. 5-6).

    w(k) * lambda / |V| on the high group, w(k) * (1 - lambda) / |L| on the low one. Where the high group covers the
    response (one token, or ceil(p_v * T) == T) there is no low group, and the high one gets all of w(k).

    Args:
        va: [N, T] visual advantage, nats; ignored off the mask.
        response_mask: [N, T] 1 on response tokens.
        rollout_weights: [N] w(k), at least 0.
        high_fraction: p_v, in (0, 1).
        high_weight: lambda, in (0, 1).
    Returns:
        [N, T] float32, detached; sums to w(k) over each rollout, 0 off the mask.
    Raises:
        ValueError: shapes differ, an empty response, a value not finite, a negative rollout weight, or high_fraction
            or high_weight outside (0, 1).
    """
    high = high_va_mask(va, response_mask, high_fraction)
    return grouped_token_weights(high, response_mask, rollout_weights, high_weight)


def grouped_token_weights(
    high: Tensor, response_mask: Tensor, rollout_weights: Tensor, high_weight: float = 0.5
) -> Tensor:
    """Eq. 5-6 for any two groups V (high) and L (the others) of a rollout's tokens.

        c_t = w(k) * lambda / |V| for t in V,  w(k) * (1 - lambda) / |L| for t in L

    A group that is empty leaves all of w(k) to the other, whose tokens then weigh w(k) / T.

    Args:
        high: [N, T] bool, ignored off the mask. The others: as of :func:`token_weights`.
    Returns:
        [N, T] float32, detached; sums to w(k) over each rollout, 0 off the mask.
    Raises:
        ValueError: as :func:`token_weights`.
    """
    check_open_fraction("high_weight", high_weight)
    mask = checked_mask(response_mask)
    check_shape("high", high, mask.shape, "response_mask")
    weights = _checked_rollout_weights(rollout_weights, mask)
    high = high & mask
    low = mask & ~high
    high_count, low_count = high.sum(dim=1), low.sum(dim=1)
    high_mass = torch.where(low_count > 0, high_weight, 1.0).to(weights)  # share of w(k)
    high_mass = torch.where(high_count > 0, high_mass, 0.0)
    per_high = weights * high_mass / high_count.clamp(min=1)
    per_low = weights * (1 - high_mass) / low_count.clamp(min=1)
    return (high * per_high[:, None] + low * per_low[:, None]).float()


def uniform_token_weights(response_mask: Tensor, rollout_weights: Tensor) -> Tensor:
    """Coefficients without groups: w(k) / T on each of a rollout's T tokens (the mean of Eq. 1).

    Args:
        response_mask: [N, T] 1 on response tokens.
        rollout_weights: [N] w(k), at least 0.
    Returns:
        [N, T] float32, detached; sums to w(k) over each rollout, 0 off the mask.
    Raises:
        ValueError: shapes differ, an empty response, a weight negative or not finite.
    """
    mask = checked_mask(response_mask)
    weights = _checked_rollout_weights(rollout_weights, mask)
    return (mask * (weights / mask.sum(dim=1))[:, None]).float()


def opd_token_weights(response_mask: Tensor, prompt_ids: Sequence[Hashable]) -> Tensor:
    """Coefficients of Standard OPD (Eq. 1): 1 / (K * T), the token mean in each rollout, then the mean over siblings.

    Args:
        response_mask: [N, T] 1 on response tokens.
        prompt_ids: N hashables; rollouts with equal ids are siblings.
    Returns:
        [N, T] float32; sums to 1 over each prompt's siblings, 0 off the mask.
    Raises:
        ValueError: shapes differ, or an empty response.
    """
    if len(prompt_ids) != len(response_mask):
        raise ValueError(f"prompt_ids holds {len(prompt_ids)} ids for {len(response_mask)} rollouts; pass one id each")
    return uniform_token_weights(response_mask, uniform_rollout_weights(prompt_ids))


def _checked_rollout_weights(rollout_weights: Tensor, mask: Tensor) -> Tensor:
    check_shape("rollout_weights", rollout_weights, mask.shape[:1], "response_mask")
    check_finite("rollout_weights", rollout_weights)
    if (rollout_weights < 0).any():
        row = int((rollout_weights < 0).nonzero()[0, 0])
        raise ValueError(f"rollout_weights is negative in row {row}; weights are shares of a prompt's loss")
    return rollout_weights.detach().to(mask.device).double()
