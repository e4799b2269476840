"""Rollout-level reweighting: siblings that lean more on the image weigh more (Section 3.1)."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_positive


def rollout_weights(
    mean_va: Tensor, prompt_ids: Sequence[Hashable], temperature: float = 1.0, eps: float = 1e-6
) -> Tensor:
    """Softmax weights of sibling rollouts by relative visual advantage (Eq. 3-4).

    Args:
        mean_va: [N] trajectory-averaged visual advantage, nats.
        prompt_ids: N hashables; rollouts with equal ids are siblings, in any order and any number.
        temperature: tau of Eq. 4.
        eps: added to the population standard deviation of the siblings, nats.
    Returns:
        [N] float32, detached; sums to 1 over each prompt's siblings. Equal siblings weigh the same.
    Raises:
        ValueError: shapes differ, a mean that is not finite, or temperature or eps not positive.
    """
    check_positive("temperature", temperature)
    check_positive("eps", eps)
    if mean_va.dim() != 1:
        raise ValueError(f"mean_va must be [N], got shape {list(mean_va.shape)}")
    check_finite("mean_va", mean_va)
    siblings_of = _siblings(prompt_ids)
    if len(prompt_ids) != len(mean_va):
        raise ValueError(f"prompt_ids holds {len(prompt_ids)} ids for {len(mean_va)} rollouts; pass one id per rollout")
    means = mean_va.detach().double()  # equal means stay equal: float32 would tell them apart by rounding
    weights = torch.empty_like(means)
    for siblings in siblings_of.values():
        group = means[siblings]
        relative = (group - group.mean()) / (group.std(correction=0) + eps)  # Eq. 3, right
        weights[siblings] = torch.softmax(relative / temperature, dim=0)  # Eq. 4, normalised over the siblings
    return weights.float()


def uniform_rollout_weights(prompt_ids: Sequence[Hashable]) -> Tensor:
    """Rollout weights without visual advantage: 1/K for each of a prompt's K siblings (Eq. 1).

    Args:
        prompt_ids: N hashables; rollouts with equal ids are siblings, in any order and any number.
    Returns:
        [N] float32 on the CPU; sums to 1 over each prompt's siblings.
    Raises:
        ValueError: the ids are a tensor or not hashable.
    """
    weights = torch.empty(len(prompt_ids), dtype=torch.float32)
    for siblings in _siblings(prompt_ids).values():
        weights[siblings] = 1.0 / len(siblings)
    return weights


def _siblings(prompt_ids: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """The rollouts of each prompt, by their place in the batch."""
    if isinstance(prompt_ids, Tensor):
        raise ValueError("prompt_ids is a tensor, whose elements hash by identity; pass prompt_ids.tolist()")
    siblings: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompt_ids):
        try:
            siblings.setdefault(prompt, []).append(place)
        except TypeError as error:
            raise ValueError(f"prompt_ids[{place}] of type {type(prompt).__name__} is not hashable") from error
    return siblings
