"""Which tokens' KL is left out: the controlled experiment behind VA-OPD (Section 2.2)."""

import hashlib
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_shape, checked_mask
from verl_vaopd.algorithm.high_group import high_token_counts

MASKED_TOKENS = ("none", "random", "lowest_va", "highest_va")


def masked_tokens(
    choice: str, va: Tensor, response_mask: Tensor, rollout_ids: Sequence[bytes], fraction: float = 0.1, seed: int = 0
) -> Tensor:
    """The ceil(fraction * T) tokens of each rollout whose KL is masked: random ones, or those of lowest or highest VA.

    Ties in VA (about half of all tokens have none at all) are settled by the random order, not by position, which would
    mask the start of the text. That order depends on ``seed`` and the rollout's own id alone: it is the same in any
    batch, in any place of it, and beside any siblings. A response of one token is masked whole.

    Args:
        choice: one of ``MASKED_TOKENS``.
        va: [N, T] visual advantage; ignored off the mask.
        response_mask: [N, T] 1 on response tokens.
        rollout_ids: N byte strings that tell rollouts apart, for example their token ids.
    Returns:
        [N, T] bool, True on masked tokens; all False for ``none``.
    Raises:
        ValueError: an unknown choice, shapes differ, an empty response, a VA not finite, a fraction outside (0, 1).
    """
    if choice not in MASKED_TOKENS:
        raise ValueError(f"choice must be one of {MASKED_TOKENS}, got {choice!r}")
    mask = checked_mask(response_mask)
    check_shape("va", va, mask.shape, "response_mask")
    check_finite("va", va, mask)
    if choice == "none":
        return torch.zeros_like(mask)
    order = random_order(mask, rollout_ids, seed)
    if choice != "random":
        score = va.detach() if choice == "lowest_va" else -va.detach()
        score = torch.where(mask, score, torch.inf)  # off the mask ranks last
        order = order.gather(1, torch.argsort(score.gather(1, order), dim=1, stable=True))
    first = torch.arange(mask.shape[1], device=mask.device) < high_token_counts(mask.sum(dim=1), fraction)[:, None]
    return torch.zeros_like(mask).scatter(1, order, first)


def random_order(mask: Tensor, rollout_ids: Sequence[bytes], seed: int) -> Tensor:
    """[N, T] int64: the places of each rollout's tokens in a random order, those off the mask last."""
    if len(rollout_ids) != len(mask):
        raise ValueError(f"rollout_ids holds {len(rollout_ids)} ids for {len(mask)} rollouts; pass one id each")
    draws = torch.full(mask.shape, 2.0, dtype=torch.float64)  # off the mask after every draw
    for row, (on, rollout_id) in enumerate(zip(mask.cpu(), rollout_ids, strict=True)):
        draws[row, on] = torch.tensor(_draws(int(on.sum()), seed, rollout_id), dtype=torch.float64)
    return torch.argsort(draws.to(mask.device), dim=1)


def _draws(count: int, seed: int, rollout_id: bytes) -> list[float]:
    digest = hashlib.blake2b(rollout_id, digest_size=16, salt=seed.to_bytes(8, "little")).digest()
    generator = random.Random(digest)
    return [generator.random() for _ in range(count)]
