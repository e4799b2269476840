"""Groups by mass: the high group is as large as the score is spread, not a fraction of the length.

With a fraction p_v of T tokens a high token weighs lambda / p_v times what it weighs in Eq. 1, however long the text:
where few tokens of many are visual, most of the high group is language. Here a rollout whose score lies on four tokens
has a high group of four.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_open_fraction, check_shape, checked_mask
from verl_vaopd.algorithm.token_masking import random_order


def high_mass_mask(score: Tensor, response_mask: Tensor, share: float = 0.9) -> Tensor:
    """The smallest set of a rollout's tokens that carries ``share`` of its score.

    With the tokens in descending order of their score s, the earlier one first in a tie, token r is in it if
    sum_{q < r} s_q < share * sum_q s_q. No token without score is in it, and none at all where no token has any. The
    right side is rounded down by 1e-9 of itself, so that nine of ten equal tokens are 0.9 in floating point too.

    Args:
        score: [N, T] at least 0, as visual advantage or the KL between the views are; ignored off the mask.
        response_mask: [N, T] 1 on response tokens.
        share: in (0, 1).
    Returns:
        [N, T] bool; False off the mask.
    Raises:
        ValueError: shapes differ, an empty response, a score on the mask negative or not finite, a bad share.
    """
    check_open_fraction("share", share)
    mask = checked_mask(response_mask)
    check_shape("score", score, mask.shape, "response_mask")
    check_finite("score", score, mask)
    values = torch.where(mask, score.detach().double(), 0.0)
    if (values < 0).any():
        row = int((values < 0).any(dim=1).nonzero()[0, 0])
        raise ValueError(f"score is negative in row {row}; groups by mass need a score of at least 0")
    ordered, order = values.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(dim=1) - ordered
    enough = share * ordered.sum(dim=1, keepdim=True) * (1 - 1e-9)
    return torch.zeros_like(mask).scatter(1, order, before < enough)


def random_group(high: Tensor, response_mask: Tensor, rollout_ids: Sequence[bytes], seed: int = 0) -> Tensor:
    """As many random tokens of each rollout as are in ``high``: what a group of this size does by itself.

    Args:
        high: [N, T] bool. rollout_ids, seed: as of :func:`masked_tokens`.
    Returns:
        [N, T] bool; False off the mask.
    Raises:
        ValueError: shapes differ, an empty response, not one id a rollout.
    """
    mask = checked_mask(response_mask)
    check_shape("high", high, mask.shape, "response_mask")
    order = random_order(mask, rollout_ids, seed)
    first = torch.arange(mask.shape[1], device=mask.device) < high.sum(dim=1, keepdim=True)
    return torch.zeros_like(mask).scatter(1, order, first)
