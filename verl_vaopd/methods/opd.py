"""``opd``: Standard On-Policy Distillation (Eq. 1), reverse KL on the student's answers, every token alike.

With ``vaopd.mask_tokens`` the KL of some tokens is left out (Section 2.2).
"""

from collections.abc import Mapping

from torch import Tensor

from verl_vaopd.algorithm import masked_tokens, opd_token_weights
from verl_vaopd.methods.interface.distillation import Distillation
from verl_vaopd.methods.interface.method import Label, Step, Weighed

MASKED = {"random": "random", "lowest_va": "lowest-VA", "highest_va": "highest-VA"}


class OPD(Distillation):
    title = "Standard OPD"
    takes_masks = True

    def weigh(self, step: Step) -> Weighed:
        weights = opd_token_weights(step.mask, step.prompts)  # 1 / (K T)
        if self.settings.mask_tokens != "none":
            weights = self._masked(weights, step)
        return self.weighed(step, weights / step.prompt_count)

    def _masked(self, weights: Tensor, step: Step) -> Tensor:
        """The others keep their 1 / (K T)."""
        settings = self.settings
        score = self.evidence(step).score
        left_out = masked_tokens(
            settings.mask_tokens, score, step.mask, step.rollout_ids, settings.mask_fraction, settings.mask_seed
        )
        weights = weights.masked_fill(left_out, 0.0)
        if not weights.any():
            raise ValueError(f"vaopd.mask_tokens={settings.mask_tokens} leaves no token: every response has one token")
        return weights

    @property
    def follows(self) -> tuple[str, ...]:
        masks = {"none": (), "random": ("mask_fraction", "mask_seed")}
        return (*super().follows, *masks.get(self.settings.mask_tokens, ("mask_fraction",)))

    def refusals(self, config):
        yield from super().refusals(config)
        mask = self.settings.mask_tokens
        by_va = mask not in ("none", "random") and not self.settings.degraded_view
        yield by_va, "vaopd.mask_tokens", mask, "'random' or 'none': without degraded_view there is no VA"

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        if vaopd["mask_tokens"] == "none":
            return Label(cls.title)
        return Label(f"{MASKED[vaopd['mask_tokens']]} {vaopd['mask_fraction']:.0%} masked", kind="masking")
