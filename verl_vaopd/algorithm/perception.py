"""The terms that PAPO adds to GRPO (Wang et al. 2025, https://arxiv.org/abs/2507.06448), token by token."""

from torch import Tensor

from verl_vaopd.algorithm.checks import check_shape

MOST_NATS = 10.0
"""Largest perception KL of a token: beyond it nothing is gained, as in the authors' code."""


def perception_kl(log_probs: Tensor, masked_log_probs: Tensor) -> Tensor:
    """KL(policy given the image || policy given the masked image) at the sampled token, nats, to be maximised.

    The estimator r - log r - 1 with r = p(masked) / p(image): never negative, unbiased under the policy's own samples.

    Args:
        log_probs, masked_log_probs: of one shape, log-probability of the sampled token under either view.
    Returns:
        The same shape, at most ``MOST_NATS``; gradients to both.
    Raises:
        ValueError: shapes differ.
    """
    check_shape("masked_log_probs", masked_log_probs, log_probs.shape, "log_probs")
    log_r = (masked_log_probs - log_probs).clamp(-20, 20)
    return (log_r.exp() - log_r - 1).clamp(max=MOST_NATS)


def perception_terms(
    log_probs: Tensor,
    masked_log_probs: Tensor,
    perception_weight: float = 0.01,
    entropy_weight: float = 0.03,
    masked_entropy_weight: float = 0.03,
) -> Tensor:
    """What PAPO adds to each token's loss: -gamma KL + eta_1 H + eta_2 H_masked, nats, not averaged.

    H is estimated by -log p of the sampled token. Both entropies are held down, so that the KL cannot grow by a policy
    that scatters (the paper's double entropy loss).

    Returns:
        The shape of the log-probabilities; gradients to both.
    Raises:
        ValueError: shapes differ.
    """
    kl = perception_kl(log_probs, masked_log_probs)
    return -perception_weight * kl - entropy_weight * log_probs - masked_entropy_weight * masked_log_probs
