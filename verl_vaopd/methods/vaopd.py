"""``vaopd``: Visual-Advantage On-Policy Distillation (arXiv 2605.21924), Eq. 2 to 6."""

from collections.abc import Mapping

from verl_vaopd.algorithm import (
    grouped_token_weights,
    mean_visual_advantage,
    rollout_weights,
    uniform_rollout_weights,
    uniform_token_weights,
)
from verl_vaopd.methods.interface.distillation import Distillation
from verl_vaopd.methods.interface.method import Label, Step, Weighed

COMPONENTS = {
    (True, False): "rollout weights only",
    (False, True): "token groups only",
    (False, False): "neither component",
}
USUAL = {
    "temperature": ("\N{GREEK SMALL LETTER TAU}", 1.0),
    "high_weight": ("\N{GREEK SMALL LETTER LAMDA}", 0.5),
    "high_fraction": ("p_v", 0.2),
}


class VAOPD(Distillation):
    title = "VA-OPD"

    def weigh(self, step: Step) -> Weighed:
        s, mask, prompts = self.settings, step.mask, step.prompts
        va = self.evidence(step).score  # Eq. 2, nats; or the KL that vaopd.score names
        mean_va = mean_visual_advantage(va, mask)  # Eq. 3, left
        if s.rollout_weighting:
            w = rollout_weights(mean_va, prompts, s.temperature, s.eps)  # Eq. 3, right, and 4
        else:
            w = uniform_rollout_weights(prompts)
        if s.token_grouping:
            weights = grouped_token_weights(self.high_group(step), mask, w, s.high_weight)  # Eq. 5, times w(k)
        else:
            weights = uniform_token_weights(mask, w)
        weighed = self.weighed(step, weights / step.prompt_count, w)  # Eq. 6, its mean over prompts
        weighed.metrics["va/zero_rollouts"] = float((mean_va == 0).float().mean())
        return weighed

    @property
    def follows(self) -> tuple[str, ...]:
        own = ["rollout_weighting", "token_grouping"]
        own += ["temperature", "eps"] if self.settings.rollout_weighting else []
        own += ["high_weight"] if self.settings.token_grouping else []
        return (*super().follows, *own)

    def refusals(self, config):
        yield from super().refusals(config)
        view = self.settings.degraded_view
        yield (
            not view,
            "vaopd.degraded_view",
            view,
            f"true: {self.name} weighs tokens by the difference of the two views",
        )

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        name = cls.title + (", distribution score" if vaopd["score"] == "distribution" else "")
        components = (vaopd["rollout_weighting"], vaopd["token_grouping"])
        extras = [COMPONENTS[components]] if components in COMPONENTS else []
        extras += [f"{text} {vaopd[key]:g}" for key, (text, usual) in USUAL.items() if vaopd[key] != usual]
        return Label(name, extras)
