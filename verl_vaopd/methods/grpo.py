"""``grpo``: policy gradient on the accuracy reward (Shao et al. 2024, arXiv 2402.03300). No teacher."""

from collections.abc import Mapping

from verl_vaopd.methods.interface.method import DRIFT, Method, Step, Weighed
from verl_vaopd.methods.interface.objective import Objective
from verl_vaopd.methods.interface.policy import (
    PolicyGradient,
    advantages_of,
    logged_advantages,
    policy_refusals,
)


class GRPO(Method):
    title = "GRPO"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("rm_scores",)

    def weigh(self, step: Step) -> Weighed:
        found = advantages_of(step)
        metrics, per_rollout = logged_advantages(found)
        return Weighed(
            student={"token_weights": found.weights, "advantages": found.advantages},
            metrics=metrics,
            per_rollout=per_rollout,
            per_token={"coefficient": found.weights * found.advantages},
        )

    def refusals(self, config):
        yield from super().refusals(config)
        yield from policy_refusals(config, self.name)

    def objective(self, actor, temperature: float) -> Objective:
        return PolicyGradient(actor, temperature)

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        return (("policy/entropy", "entropy {:.4f}"), DRIFT)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        return PolicyGradient.metrics(sums)
