"""The teacher's scores of a token under two views: how a worker makes them, and what the driver reads from them.

Legend: N rollouts, T response tokens (right padded), M response tokens of a micro-batch, V of them under the degraded
view as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_vaopd.algorithm import fused_linear_view_kl, token_log_probs, visual_advantage


@dataclass
class Views:
    """What a teacher worker knows of a micro-batch's response tokens.

    hidden: [M + V, Dt], each state predicts the token of its row: under the original view, then under the degraded one.
    token_ids: [M + V]. head: [R, Dt].
    tokens: M. both: selects from M values those V; a slice where all tokens have both views.
    """

    hidden: Tensor
    token_ids: Tensor
    head: Tensor
    tokens: int
    both: slice | Tensor
    vocab_size: int
    chunk_size: int | None

    @property
    def original(self) -> Tensor:
        """[M, Dt]."""
        return self.hidden[: self.tokens]


@dataclass
class Evidence:
    """va [N, T] nats, Eq. 2; score [N, T], what weights and groups follow: va, or the KL between the views."""

    va: Tensor
    score: Tensor


class SampledScore:
    """Eq. 2: log-probabilities of the sampled token under both views. Without a second view they are the same."""

    names = ("logp_original", "logp_pixelated")

    def of(self, views: Views) -> dict[str, Tensor]:
        """name -> [M] float32, nats."""
        log_probs = token_log_probs(
            views.hidden, views.head, views.token_ids, views.vocab_size, chunk_size=views.chunk_size
        )
        pixelated = log_probs[: views.tokens].clone()
        pixelated[views.both] = log_probs[views.tokens :]
        return {"logp_original": log_probs[: views.tokens], "logp_pixelated": pixelated}

    def evidence(self, columns: Mapping[str, Tensor], mask: Tensor) -> Evidence:
        va = visual_advantage(columns["logp_original"], columns["logp_pixelated"], mask)
        return Evidence(va, va)

    def logged(self, evidence: Evidence, mask: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of the step, and columns of the token log."""
        return va_statistics(evidence.va, mask), {"va": evidence.va}


class DistributionScore:
    """KL(p_T(. | v) || p_T(. | v~)) over the vocabulary; beside it Eq. 2 before its clamp. Without a second view 0."""

    names = ("view_kl", "view_gain")

    def of(self, views: Views) -> dict[str, Tensor]:
        pair, ids = (views.original[views.both], views.hidden[views.tokens :]), views.token_ids[views.tokens :]
        scored = fused_linear_view_kl(*pair, views.head, views.vocab_size, ids, chunk_size=views.chunk_size)
        scores = {name: views.hidden.new_zeros(views.tokens, dtype=scored[0].dtype) for name in self.names}
        for name, values in zip(self.names, scored, strict=True):
            scores[name][views.both] = values
        return scores

    def evidence(self, columns: Mapping[str, Tensor], mask: Tensor) -> Evidence:
        zero = torch.zeros_like(columns["view_gain"])
        # Eq. 2 takes the difference of the two log-probabilities, which the gain is; a KL meets its checks, no clamp.
        va = visual_advantage(columns["view_gain"], zero, mask)
        return Evidence(va, visual_advantage(columns["view_kl"], zero, mask))

    def logged(self, evidence: Evidence, mask: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        own = va_statistics(evidence.score, mask)
        own = {name.replace("va/", "va_distribution/"): value for name, value in own.items()}
        return {**va_statistics(evidence.va, mask), **own}, {"va": evidence.va, "view_kl": evidence.score}


SCORES = {"sampled": SampledScore(), "distribution": DistributionScore()}
"""By the setting ``vaopd.score``."""


def va_statistics(va: Tensor, mask: Tensor) -> dict[str, float]:
    """Mean VA over all response tokens (nats) and the share of VA carried by the top 10% of them."""
    values = va[mask.bool()].sort(descending=True).values
    top = max(1, -(-len(values) // 10))
    total = float(values.sum())
    return {
        "va/mean": float(values.mean()),
        "va/top10_share": float(values[:top].sum()) / total if total > 0 else 0.0,
    }
