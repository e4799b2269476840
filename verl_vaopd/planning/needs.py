"""What of a method decides the plan of its run, as plain figures."""

from dataclasses import dataclass

from verl_vaopd.methods import Method


@dataclass(frozen=True)
class Needs:
    """Defaults: VA-OPD's."""

    samples: bool = True
    """The student samples the answers of every step; else stored ones are replayed."""
    learns_by: str = "rollouts"
    """As :attr:`Method.learns_by`: ``rollouts``, ``fine_tuning`` or ``nothing``."""
    teacher_views: int = 2
    """Under which the teacher scores rollouts; 0: none is loaded."""
    student_views: int = 1
    """Under which the student runs a row."""
    distils: bool = True
    """The teacher's head and hidden states are held beside the student."""
    rewarded: bool = False
    """A policy loss stands beside the divergence from the teacher."""

    @classmethod
    def of(cls, method: Method) -> "Needs":
        return cls(
            samples=method.answers_by == "student" and method.learns_by == "rollouts",
            learns_by=method.learns_by,
            teacher_views=method.teacher_views,
            student_views=method.student_views,
            distils=method.teacher_hidden,
            rewarded=method.teacher_hidden and method.settings.reward_weight > 0,
        )

    @property
    def trains(self) -> bool:
        return self.learns_by != "nothing"

    @property
    def fine_tunes(self) -> bool:
        """On stored answers alone, before vLLM and the teacher are there; each answer with a prompt of its own."""
        return self.learns_by == "fine_tuning"

    @property
    def steps_on_rollouts(self) -> bool:
        return self.learns_by == "rollouts"

    def of_a_step(self, phases: dict[str, float]) -> dict[str, float]:
        """Of all phases those that a step has: with generation only where the student samples; fine-tuning updates the
        student and does nothing else."""
        if not self.trains:
            return {}
        if self.fine_tunes:
            return {name: phases[name] for name in ("student", "optimiser")}
        return {name: value for name, value in phases.items() if self.samples or not name.startswith("generation")}

    def of_a_validation(self, phases: dict[str, float]) -> dict[str, float]:
        """Generation, and the teacher where it scores two views."""
        wanted = ("generation", "teacher") if self.teacher_views == 2 else ("generation",)
        return {name: value for name, value in phases.items() if name.startswith(wanted)}
