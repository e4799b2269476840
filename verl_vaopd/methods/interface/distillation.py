"""What methods share that pull the student towards the teacher's distribution."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verl_vaopd.algorithm import fused_linear_reverse_kl, high_va_mask, uniform_rollout_weights
from verl_vaopd.methods.interface.method import DRIFT, SHOWN, Method, Step, Weighed
from verl_vaopd.methods.interface.objective import Objective, Outcome, Responses
from verl_vaopd.methods.interface.policy import PolicyGradient, policy_refusals, reward_term


@dataclass
class Divergence:
    """sum(weight * divergence of student and teacher), over the whole vocabulary."""

    of: Callable = fused_linear_reverse_kl
    fields = ("high_va", "teacher_hidden")
    views = 1

    def __call__(self, given: Responses) -> Outcome:
        weights = given.weights()
        loss, divergence, log_probs = self.of(
            given.hidden,
            given.head,
            given.columns["teacher_hidden"].to(given.teacher_head.dtype),
            given.teacher_head,
            weights,
            given.vocab_size,
            chunk_size=given.chunk_size,
            token_ids=given.token_ids,
        )
        counted = weights > 0
        high = (given.columns["high_va"] > 0) & counted
        sums = {"kl_sum": divergence[counted].sum(), "kl_high_sum": divergence[high].sum(), "high_tokens": high.sum()}
        return Outcome(loss, log_probs, sums)


@dataclass
class WithReward:
    """An objective and GRPO's beside it, in one backward: the gradient is the sum of the two."""

    first: Divergence
    policy: PolicyGradient
    views = 1

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.first.fields, *self.policy.fields, self.policy.weighed_by)

    def __call__(self, given: Responses) -> Outcome:
        one, other = self.first(given), self.policy(given)
        return Outcome(one.loss + other.loss, one.log_probs, {**one.sums, **other.sums})


class Distillation(Method):
    """A weighted divergence to the teacher on every response token; a subclass says how tokens are weighed."""

    teacher_hidden = True
    takes_reward = True

    @property
    def teacher_views(self) -> int:
        return 2 if self.settings.degraded_view else 1

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.score_names, *(("rm_scores",) if self.settings.reward_weight else ()))

    @property
    def follows(self) -> tuple[str, ...]:
        return (*super().follows, "degraded_view", "high_fraction")  # the high group is logged by every distillation

    def refusals(self, config):
        yield from super().refusals(config)
        if self.settings.reward_weight:
            yield from policy_refusals(config, f"vaopd.reward_weight={self.settings.reward_weight}")

    @abstractmethod
    def weigh(self, step: Step) -> Weighed: ...

    def high_group(self, step: Step) -> Tensor:
        """[N, T] bool: the tokens that are logged, and by some methods weighed, as high (Section 3.2)."""
        return high_va_mask(self.evidence(step).score, step.mask, self.settings.high_fraction)

    def weighed(self, step: Step, token_weights: Tensor, rollout_weights: Tensor | None = None) -> Weighed:
        """What :meth:`weigh` returns of ``token_weights`` [N, T]: beside them the high-VA group, for the log, the
        reward term, if any, and what is shown.

        Args:
            token_weights: in all 1 (less where tokens are left out), 0 off the mask.
            rollout_weights: [N], 1 in all per prompt; for the log, by default 1/K.
        """
        evidence = self.evidence(step)
        high_va = self.high_group(step)
        weights = uniform_rollout_weights(step.prompts) if rollout_weights is None else rollout_weights
        metrics = {
            "weights/rollout_max": float(weights.max()),
            "weights/rollout_spread": sibling_spread(weights, step.prompts),
        }
        of_views, per_token = self.scores.logged(evidence, step.mask)
        if self.teacher_views == 2:
            metrics |= of_views
        per_token |= {"coefficient": token_weights, "high_va": high_va.int()}
        result = Weighed(
            student={"token_weights": token_weights, "high_va": high_va},
            evidence=evidence,
            metrics=metrics,
            per_rollout={"rollout_weight": weights},
            per_token=per_token,
        )
        if self.settings.reward_weight:
            reward_term(step, self.settings.reward_weight, result)
        return result

    @property
    def divergence(self) -> Callable:
        """A fused divergence of ``algorithm``, called as :func:`fused_linear_reverse_kl` is."""
        return fused_linear_reverse_kl

    def objective(self, actor, temperature: float) -> Objective:
        first = Divergence(self.divergence)
        if not self.settings.reward_weight:
            return first
        return WithReward(first, PolicyGradient(actor, temperature, weighed_by="reward_weights"))

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        reward = (("policy/entropy", "entropy {:.4f}"),) if self.settings.reward_weight else ()
        return (("kl/high", "KL high {:.4f}"), ("kl/low", "low {:.4f}"), *SHOWN, *reward, DRIFT)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over tokens of the divergence; ``kl/*`` whatever the divergence is."""
        tokens, high = sums["tokens"], sums["high_tokens"]
        low_sum = sums["kl_sum"] - sums["kl_high_sum"]
        metrics = {
            "kl/mean": sums["kl_sum"] / tokens,
            "kl/high": sums["kl_high_sum"] / high if high else 0.0,  # all of them may be masked
            "kl/low": low_sum / (tokens - high) if tokens > high else 0.0,
        }
        if self.settings.reward_weight:
            metrics |= PolicyGradient.metrics(sums)
        return metrics


def sibling_spread(weights: Tensor, prompts: list) -> float:
    """Mean over prompts of the largest minus the smallest rollout weight [N] among siblings."""
    spreads = []
    for prompt in set(prompts):
        own = weights[torch.tensor([other == prompt for other in prompts])]
        spreads.append(own.max() - own.min())
    return float(torch.stack(spreads).mean())
