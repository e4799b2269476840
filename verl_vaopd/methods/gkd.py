"""``gkd``: Generalized Knowledge Distillation (Agarwal et al. 2024, arXiv 2306.13649) on the student's answers.

The divergence is the generalised Jensen-Shannon divergence with ``vaopd.gkd.beta``: 0 is forward KL, 1 reverse KL.
Tokens weigh as in Standard OPD, or with ``vaopd.gkd.token_weights=visual_advantage`` as in VA-OPD.
"""

from collections.abc import Callable, Mapping
from functools import partial

from verl_vaopd.algorithm import fused_linear_jsd
from verl_vaopd.methods.interface.distillation import Distillation
from verl_vaopd.methods.interface.method import Label, Step, Weighed
from verl_vaopd.methods.opd import OPD
from verl_vaopd.methods.vaopd import VAOPD

WEIGHTS = {"uniform": OPD, "visual_advantage": VAOPD}


class GKD(Distillation):
    title = "GKD"

    def __init__(self, settings):
        super().__init__(settings)
        self.weights = WEIGHTS[settings.gkd.token_weights](settings)

    @property
    def divergence(self) -> Callable:
        return partial(fused_linear_jsd, beta=self.settings.gkd.beta)

    def weigh(self, step: Step) -> Weighed:
        return self.weights.weigh(step)

    @property
    def follows(self) -> tuple[str, ...]:
        return (*self.weights.follows, "gkd")

    def refusals(self, config):
        yield from super().refusals(config)
        yield from self.weights.refusals(config)

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        by = WEIGHTS[vaopd["gkd"]["token_weights"]].label(vaopd)
        return Label(f"{cls.title}, \N{GREEK SMALL LETTER BETA} {vaopd['gkd']['beta']:g}", [*by.extras], by.kind)
