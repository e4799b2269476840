"""GRPO's advantages, from verl, and the weight of each token in the policy loss."""

from dataclasses import dataclass

import numpy as np
import torch
from verl.trainer.ppo.core_algos import AdvantageEstimator, get_adv_estimator_fn


@dataclass
class Advantages:
    """advantages [N, T], the same on all tokens of a rollout, 0 off the mask; weights [N, T], 1 in all."""

    advantages: torch.Tensor
    weights: torch.Tensor


def group_advantages(
    token_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    prompt_ids: list[str],
    loss_agg_mode: str = "token-mean",
    norm_by_std: bool = True,
) -> Advantages:
    """Advantages of GRPO (Shao et al. 2024, https://arxiv.org/abs/2402.03300, Section 4.1.2), computed by verl.

    Args:
        token_rewards, response_mask: [N, T]; a rollout's reward is the sum over its tokens.
        prompt_ids: rollouts with equal ids are a group.
        loss_agg_mode: verl's ``token-mean`` (every token of the batch weighs the same) or ``seq-mean-token-mean``
            (every rollout does, as in the paper).
        norm_by_std: divide by the group's standard deviation (verl's ``algorithm.norm_adv_by_std_in_grpo``).
    """
    mask = response_mask.float()
    advantages, _ = get_adv_estimator_fn(AdvantageEstimator.GRPO)(
        token_level_rewards=token_rewards,
        response_mask=mask,
        index=np.array(prompt_ids, dtype=object),
        norm_adv_by_std_in_grpo=norm_by_std,
    )
    if loss_agg_mode == "token-mean":
        weights = mask / mask.sum()
    else:
        weights = mask / mask.sum(dim=1, keepdim=True) / len(mask)
    return Advantages(advantages, weights)
