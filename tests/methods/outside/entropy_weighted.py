"""Standard OPD whose tokens count by the teacher's entropy: a method outside the package (docs/methods.md)."""

from verl_vaopd.algorithm import token_entropy, uniform_rollout_weights, uniform_token_weights
from verl_vaopd.methods import Distillation, Step, Views, Weighed


class EntropyWeighted(Distillation):
    title = "Entropy-weighted OPD"
    takes_settings = True

    @property
    def score_names(self) -> tuple[str, ...]:
        return (*super().score_names, "entropy")

    def score(self, views: Views) -> dict:
        entropy = token_entropy(views.original, views.head, views.vocab_size, chunk_size=views.chunk_size)
        return {**super().score(views), "entropy": entropy}  # nats, beside the two scores that VA is made of

    def weigh(self, step: Step) -> Weighed:
        rollouts = uniform_rollout_weights(step.prompts)  # 1 / K
        floor = self.settings.method_settings.get("floor", 0.1)
        weights = uniform_token_weights(step.mask, rollouts) * (step.columns["entropy"] + floor)
        weights = weights * (rollouts / weights.sum(1))[:, None]  # each rollout 1 / K in all
        weighed = self.weighed(step, weights / step.prompt_count)
        weighed.metrics["entropy/teacher"] = float(step.columns["entropy"][step.mask].mean())
        return weighed

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        return (("entropy/teacher", "teacher's entropy {:.3f}"), *super().shown)
