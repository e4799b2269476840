"""One coefficient per response token: everything in the objective that couples tokens, siblings and prompts."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from verl_vaopd.algorithm import (
    high_va_mask,
    masked_tokens,
    mean_visual_advantage,
    opd_token_weights,
    rollout_weights,
    token_weights,
    uniform_rollout_weights,
    uniform_token_weights,
    visual_advantage,
)
from verl_vaopd.settings.config import VAOPDConfig


@dataclass
class Coefficients:
    """va [N, T] nats, Eq. 2; score [N, T], what weights and groups follow: va, or the KL between the views; mean_score
    [N]; rollout_weights [N], 1 in all per prompt; high_va [N, T] bool; coefficients [N, T], 1 in all less the masked
    tokens': each prompt's share is 1 / prompts."""

    va: torch.Tensor
    score: torch.Tensor
    mean_score: torch.Tensor
    rollout_weights: torch.Tensor
    high_va: torch.Tensor
    coefficients: torch.Tensor


def compute_coefficients(
    logp_original: torch.Tensor,
    logp_pixelated: torch.Tensor,
    response_mask: torch.Tensor,
    prompt_ids: Sequence[Hashable],
    config: VAOPDConfig,
    view_kl: torch.Tensor | None = None,
    rollout_ids: Sequence[bytes] = (),
) -> Coefficients:
    """From the teacher's two scores to the coefficients of the student's loss: Eq. 2-6, or Eq. 1's without ``vaopd``.

    Args:
        logp_original, logp_pixelated, response_mask: [N, T].
        prompt_ids: N hashables; rollouts with equal ids are siblings.
        view_kl: [N, T] with ``score == "distribution"``: the KL between the teacher's distributions, the score instead.
        rollout_ids: N byte strings that tell rollouts apart, unless ``mask_tokens`` is ``none``.
    Raises:
        ValueError: a score is not finite, a response is empty, or no token is left after masking.
    """
    va = visual_advantage(logp_original, logp_pixelated, response_mask)
    score = va
    if config.score == "distribution":
        score = visual_advantage(view_kl, torch.zeros_like(view_kl), response_mask)  # its checks; a KL has no clamp
    mean_score = mean_visual_advantage(score, response_mask)
    high_va = high_va_mask(score, response_mask, config.high_fraction)
    if config.method != "vaopd":  # Standard OPD's weights, for off-policy distillation too
        weights = uniform_rollout_weights(prompt_ids)
        coefficients = opd_token_weights(response_mask, prompt_ids)
    else:
        weights = (
            rollout_weights(mean_score, prompt_ids, config.temperature, config.eps)
            if config.rollout_weighting
            else uniform_rollout_weights(prompt_ids)
        )
        coefficients = (
            token_weights(score, response_mask, weights, config.high_fraction, config.high_weight)
            if config.token_grouping
            else uniform_token_weights(response_mask, weights)
        )
    if config.mask_tokens != "none":
        left_out = masked_tokens(
            config.mask_tokens, score, response_mask, rollout_ids, config.mask_fraction, config.mask_seed
        )
        coefficients = coefficients.masked_fill(left_out, 0.0)  # the others keep their 1 / (K T)
        if not coefficients.any():
            raise ValueError(f"vaopd.mask_tokens={config.mask_tokens} leaves no token: every response has one token")
    prompts = len(set(prompt_ids))
    coefficients = coefficients / prompts  # the mean over prompts of Eq. 6
    return Coefficients(va, score, mean_score, weights, high_va, coefficients)


def va_statistics(va: torch.Tensor, response_mask: torch.Tensor) -> dict[str, float]:
    """Mean VA over all response tokens (nats) and the share of VA carried by the top 10% of them."""
    values = va[response_mask.bool()].sort(descending=True).values
    top = max(1, -(-len(values) // 10))
    total = float(values.sum())
    return {
        "va/mean": float(values.mean()),
        "va/top10_share": float(values[:top].sum()) / total if total > 0 else 0.0,
    }
