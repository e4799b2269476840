"""``self``: self-distillation from a better picture, beyond the paper. The student is shown the degraded view only; its
teacher is its own frozen copy, which sees the original.

Answers, weights and loss are those of ``vaopd``: visual advantage is then what the original tells the teacher of a
token and the student's view does not. With both components of VA-OPD off they are those of Standard OPD (Eq. 1).
"""

from collections.abc import Mapping

from verl_vaopd.methods.interface.method import Label
from verl_vaopd.methods.vaopd import COMPONENTS, VAOPD

WITHOUT = COMPONENTS[False, False]


class SelfDistillation(VAOPD):
    title = "Self-distillation"
    shows_second_view = True

    def refusals(self, config):
        yield from super().refusals(config)
        teacher, student = self.settings.teacher.path, config.actor_rollout_ref.model.path
        yield (
            teacher != student,
            "vaopd.teacher.path",
            teacher,
            f"{student!r}, as actor_rollout_ref.model.path: the teacher of {self.name} is the student, frozen",
        )

    @classmethod
    def label(cls, vaopd: Mapping) -> Label:
        label = super().label(vaopd)
        extras = [each for each in label.extras if each != WITHOUT]
        name = label.name if WITHOUT in label.extras else label.name.replace(cls.title, f"{cls.title} by VA")
        # How coarse the images are belongs to the method.
        return Label(name, extras, None if extras else "method")
