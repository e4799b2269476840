"""VA-OPD that notes when the teacher has scored, the driver weighed and the student learnt."""

from dataclasses import dataclass

from pretend_sleep import note

from verl_vaopd.methods import Objective, Outcome, Responses
from verl_vaopd.methods.vaopd import VAOPD


@dataclass
class Noted:
    objective: Objective

    @property
    def fields(self):
        return self.objective.fields

    @property
    def views(self):
        return self.objective.views

    def __call__(self, responses: Responses) -> Outcome:
        note("update")
        return self.objective(responses)


class NotedVAOPD(VAOPD):
    def score(self, views) -> dict:
        note("score")
        return super().score(views)

    def weigh(self, step):
        note("weigh")
        return super().weigh(step)

    def objective(self, actor, temperature):
        return Noted(super().objective(actor, temperature))
