"""Visual advantage: how much the teacher needs fine detail of the image to predict a token (Section 2.1)."""

import torch
from torch import Tensor

from verl_vaopd.algorithm.checks import check_finite, check_shape, checked_mask


def visual_advantage(logp_original: Tensor, logp_pixelated: Tensor, response_mask: Tensor) -> Tensor:
    """Visual advantage of each response token (Eq. 2).

    Args:
        logp_original: [N, T] teacher's log-probability of the sampled token given the original image, nats.
        logp_pixelated: [N, T] the same given the pixelated image.
        response_mask: [N, T] 1 on response tokens; may have gaps. What the scores hold off the mask is ignored.
    Returns:
        [N, T] float32, nats, detached; at least 0, and 0 off the mask.
    Raises:
        ValueError: shapes differ, an empty response, or a score on the mask that is not finite.
    """
    mask = checked_mask(response_mask)
    for name, scores in (("logp_original", logp_original), ("logp_pixelated", logp_pixelated)):
        check_shape(name, scores, mask.shape, "response_mask")
        check_finite(name, scores, mask)
    gain = logp_original.detach().float() - logp_pixelated.detach().float()  # Eq. 2, nats: original minus pixelated
    return torch.where(mask, gain.clamp(min=0), 0.0)


def mean_visual_advantage(va: Tensor, response_mask: Tensor) -> Tensor:
    """Trajectory-averaged visual advantage (Eq. 3, left): sum over the rollout's tokens / their number.

    Args:
        va: [N, T] visual advantage, nats; ignored off the mask.
        response_mask: [N, T] 1 on response tokens.
    Returns:
        [N] float32, nats, detached; summed in float64, so padding does not change it.
    Raises:
        ValueError: shapes differ, an empty response, or a value on the mask that is not finite.
    """
    mask = checked_mask(response_mask)
    check_shape("va", va, mask.shape, "response_mask")
    check_finite("va", va, mask)
    total = torch.where(mask, va.detach().double(), 0.0).sum(dim=1)
    return (total / mask.sum(dim=1)).float()
