"""The policy gradient on the accuracy reward that GRPO, PAPO and the reward beside a distillation share.

Advantages and the clipped loss of a token are verl's. One optimiser step is made on a batch, so the policy that sampled
is the policy that learns: the old log-probabilities are the current ones, detached, and no difference between vLLM and
trainer enters the ratio. verl is imported where it is called: the rest of ``methods`` is torch alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from verl_vaopd.algorithm import policy_log_probs
from verl_vaopd.methods.interface.method import Refusal, Step, Weighed
from verl_vaopd.methods.interface.objective import Outcome, Responses

LOSS_AGG_MODES = ("token-mean", "seq-mean-token-mean")


@dataclass
class Advantages:
    """advantages [N, T], the same on all tokens of a rollout, 0 off the mask; weights [N, T], 1 in all."""

    advantages: Tensor
    weights: Tensor


def group_advantages(
    token_rewards: Tensor,
    response_mask: Tensor,
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
    from verl.trainer.ppo.core_algos import AdvantageEstimator, get_adv_estimator_fn

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


def advantages_of(step: Step) -> Advantages:
    """:func:`group_advantages` of a step's ``rm_scores`` under verl's settings."""
    actor, by_std = step.config.actor_rollout_ref.actor, step.config.algorithm.norm_adv_by_std_in_grpo
    return group_advantages(step.columns["rm_scores"], step.mask, step.prompts, actor.loss_agg_mode, by_std)


def logged_advantages(found: Advantages) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Metrics of the step, and what the log says of each rollout."""
    per_rollout = found.advantages[:, 0]
    metrics = {
        "policy/advantage_abs": float(per_rollout.abs().mean()),
        "policy/no_signal": float((per_rollout == 0).float().mean()),
    }
    return metrics, {"advantage": per_rollout}


def reward_term(step: Step, weight: float, weighed: Weighed) -> None:
    """Add to ``weighed`` what the student needs for ``weight`` times GRPO's loss beside its own."""
    found = advantages_of(step)
    metrics, per_rollout = logged_advantages(found)
    weighed.student |= {"advantages": found.advantages, "reward_weights": weight * found.weights}
    weighed.metrics |= metrics
    weighed.per_rollout |= per_rollout


@dataclass
class PolicyGradient:
    """sum(weight * verl's clipped policy loss).

    actor: verl's actor config, with its clip settings. temperature: of the rollouts, as in verl.
    weighed_by: the column of its weights.
    """

    actor: object
    temperature: float
    weighed_by: str = "token_weights"
    fields = ("advantages",)
    views = 1

    def log_probs(self, given: Responses) -> tuple[Tensor, Tensor]:
        """[M + M2] at the rollouts' temperature, with a graph, and at temperature 1."""
        return policy_log_probs(
            given.hidden, given.head, given.token_ids, given.vocab_size, self.temperature, given.chunk_size
        )

    def loss(self, log_probs: Tensor, given: Responses) -> tuple[Tensor, dict[str, Tensor]]:
        """Of log_probs [M]. Returns the loss and the sums to log."""
        from verl.trainer.ppo.core_algos import get_policy_loss_fn

        weights = given.weights(self.weighed_by)
        counted = weights > 0
        # verl's function takes [rows, tokens] and sums them; what it calls importance weights multiply its terms.
        loss, metrics = get_policy_loss_fn("vanilla")(
            old_log_prob=log_probs.detach()[None],
            log_prob=log_probs[None],
            advantages=given.columns["advantages"][None],
            response_mask=counted[None].float(),
            loss_agg_mode="token-sum",
            config=self.actor,
            rollout_is_weights=weights[None],
        )
        sums = {
            "entropy_sum": -log_probs.detach()[counted].sum(),
            "clipped_sum": metrics["actor/pg_clipfrac"] * counted.sum(),
            "policy_tokens": counted.sum(),
        }
        return loss, sums

    def __call__(self, given: Responses) -> Outcome:
        log_probs, at_one = self.log_probs(given)
        loss, sums = self.loss(log_probs, given)
        return Outcome(loss, at_one, sums)

    @staticmethod
    def metrics(sums: Mapping[str, float]) -> dict[str, float]:
        """Means over tokens."""
        tokens = sums["policy_tokens"]
        return {"policy/entropy": sums["entropy_sum"] / tokens, "policy/clipped": sums["clipped_sum"] / tokens}


def policy_refusals(config, who: str) -> Iterator[Refusal]:
    """What a policy gradient cannot have; ``who`` has it."""
    actor, data = config.actor_rollout_ref.actor, config.data
    name = "actor_rollout_ref.actor"
    yield (
        actor.ppo_mini_batch_size != data.train_batch_size,
        f"{name}.ppo_mini_batch_size",
        actor.ppo_mini_batch_size,
        f"{data.train_batch_size} (data.train_batch_size) with {who}: the policy that learns must be the one "
        "that sampled",
    )
    yield (
        actor.loss_agg_mode not in LOSS_AGG_MODES,
        f"{name}.loss_agg_mode",
        actor.loss_agg_mode,
        f"one of {LOSS_AGG_MODES} with {who}",
    )
    mode = config.trainer.v1.trainer_mode
    yield (
        mode != "sync",
        "trainer.v1.trainer_mode",
        mode,
        f"'sync' with {who}: its ratio takes rollouts as the student's",
    )
    mode = actor.policy_loss.loss_mode
    yield mode != "vanilla", f"{name}.policy_loss.loss_mode", mode, f"'vanilla' with {who}"
