"""The high-VA group: the tokens of a rollout with the most visual advantage (Section 3.2)."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_open_fraction, check_shape, checked_mask


def high_token_counts(lengths: Tensor, high_fraction: float) -> Tensor:
    """Size of the high group, ceil(high_fraction * T), for responses of T tokens; at least 1.

    The product is rounded down by 1e-9 first: 0.07 * 100 is 7.000000000000001 in floating point and 7 here.

    Args:
        lengths: [N] number of tokens of each response.
        high_fraction: p_v, in (0, 1).
    Returns:
        [N] int64.
    Raises:
        ValueError: the fraction outside (0, 1).
    """
    check_open_fraction("high_fraction", high_fraction)
    return torch.ceil(lengths.double() * high_fraction - 1e-9).clamp(min=1).long()


def high_va_mask(va: Tensor, response_mask: Tensor, high_fraction: float = 0.2) -> Tensor:
    """Which tokens form the high-VA group: the ceil(high_fraction * T) largest, the earlier one first in a tie.

    Args:
        va: [N, T] visual advantage, or any other score to rank by; ignored off the mask.
        response_mask: [N, T] 1 on response tokens.
        high_fraction: p_v, in (0, 1).
    Returns:
        [N, T] bool; False off the mask. A response of one token, and any with ceil(p_v * T) == T, is wholly high.
    Raises:
        ValueError: shapes differ, an empty response, a score on the mask not finite, a fraction outside (0, 1).
    """
    mask = checked_mask(response_mask)
    check_shape("va", va, mask.shape, "response_mask")
    check_finite("va", va, mask)
    ranked = torch.where(mask, va.detach(), -torch.inf)  # off the mask ranks last
    order = torch.argsort(ranked, dim=1, descending=True, stable=True)
    first = torch.arange(mask.shape[1], device=mask.device) < high_token_counts(mask.sum(dim=1), high_fraction)[:, None]
    return torch.zeros_like(mask).scatter(1, order, first)
