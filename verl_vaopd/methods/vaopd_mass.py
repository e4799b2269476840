"""``vaopd_mass``: VA-OPD whose high group is the smallest set of tokens that carries ``vaopd.mass.share`` of the score.

Beyond the paper: the group's size follows the rollout, where Eq. 5 takes a fraction of its length. The rest is VA-OPD.
"""

from collections.abc import Mapping

from torch import Tensor

from verl_vaopd.algorithm import high_mass_mask, random_group
from verl_vaopd.methods.interface.method import Label, Step, Weighed
from verl_vaopd.methods.vaopd import VAOPD


class VAOPDMass(VAOPD):
    title = "VA-OPD by mass"

    def high_group(self, step: Step) -> Tensor:
        mass = self.settings.mass
        high = high_mass_mask(self.evidence(step).score, step.mask, mass.share)
        if mass.tokens == "random":
            high = random_group(high, step.mask, step.rollout_ids, self.settings.mask_seed)
        return high

    def weigh(self, step: Step) -> Weighed:
        weighed = super().weigh(step)
        weighed.metrics["weights/high_fraction"] = float(weighed.student["high_va"][step.mask].float().mean())
        return weighed

    @property
    def follows(self) -> tuple[str, ...]:
        inherited = [name for name in super().follows if name != "high_fraction"]
        return (*inherited, "mass", *(["mask_seed"] if self.settings.mass.tokens == "random" else []))

    def refusals(self, config):
        yield from super().refusals(config)
        groups = self.settings.token_grouping
        yield not groups, "vaopd.token_grouping", groups, f"true: {self.name} is a rule for groups"

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        label, mass = super().label({**vaopd, "high_fraction": 0.2}), vaopd["mass"]
        if mass["share"] != 0.9:
            label.extras.append(f"share {mass['share']:g}")
        if mass["tokens"] == "random":
            label.extras.append("random tokens")
        return label
