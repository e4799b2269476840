"""What a step's line in the log and in ``metrics.jsonl`` is made of."""

import torch

SHOWN = (
    ("kl/high", "KL high {:.4f}"),
    ("kl/low", "low {:.4f}"),
    ("va/mean", "VA {:.4f}"),
    ("va/top10_share", "(top 10%: {:.0%})"),
    ("policy/entropy", "entropy {:.4f}"),
    ("papo/perception_kl", "perception KL {:.4f}"),
    ("drift/mean", "drift {:.1e}"),
)


def shown(metrics: dict) -> str:
    """Of the metrics in ``SHOWN`` those that the method has, as a part of a line."""
    return "".join(text.format(metrics[name]) + "  " for name, text in SHOWN if name in metrics)


def kl_metrics(student: dict) -> dict[str, float]:
    """Means over tokens, from the sums of :class:`~verl_vaopd.methods.objectives.Distillation`."""
    tokens, high = student["tokens"], student["high_tokens"]
    low_sum = student["kl_sum"] - student["kl_high_sum"]
    return {
        "kl/mean": student["kl_sum"] / tokens,
        "kl/high": student["kl_high_sum"] / high if high else 0.0,  # all of them may be masked
        "kl/low": low_sum / (tokens - high) if tokens > high else 0.0,
    }


def policy_metrics(student: dict) -> dict[str, float]:
    """Means over tokens, from the sums of :class:`~verl_vaopd.methods.objectives.PolicyGradient`."""
    tokens, masked = student["tokens"], student.get("masked_tokens", 0)
    metrics = {"policy/entropy": student["entropy_sum"] / tokens, "policy/clipped": student["clipped_sum"] / tokens}
    if masked:
        metrics["papo/perception_kl"] = student["perception_kl_sum"] / masked
        metrics["papo/masked_entropy"] = student["masked_entropy_sum"] / masked
    return metrics


def sibling_spread(weights: torch.Tensor, prompt_ids: list) -> float:
    """Mean over prompts of the largest minus the smallest rollout weight among siblings."""
    spreads = []
    for prompt in set(prompt_ids):
        own = weights[torch.tensor([other == prompt for other in prompt_ids])]
        spreads.append(own.max() - own.min())
    return float(torch.stack(spreads).mean())
