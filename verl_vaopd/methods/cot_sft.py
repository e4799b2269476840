"""``cot_sft``: supervised fine-tuning on the teacher's right answers, by verl's SFT trainer (``sft/``)."""

from dataclasses import dataclass

from verl_vaopd.algorithm import policy_log_probs
from verl_vaopd.methods.interface.method import Method, Step, Weighed
from verl_vaopd.methods.interface.objective import Outcome, Responses


@dataclass
class LogLikelihood:
    """-sum(weight * log p) of given answers."""

    fields = ()
    views = 1

    def __call__(self, given: Responses) -> Outcome:
        log_probs, _ = policy_log_probs(
            given.hidden, given.head, given.token_ids, given.vocab_size, chunk_size=given.chunk_size
        )
        return Outcome(-(given.weights() * log_probs).sum(), log_probs.detach(), {})


class CoTSFT(Method):
    title = "CoT-SFT"
    answers_by = "teacher"
    learns_by = "fine_tuning"

    @property
    def teacher_views(self) -> int:
        return 2 if self.settings.degraded_view else 0  # for the VA of held-out answers

    @property
    def follows(self) -> tuple[str, ...]:
        return (*super().follows, "degraded_view")

    def weigh(self, step: Step) -> Weighed:
        raise TypeError(f"{self.name} takes no step: sft/ makes its batches")

    def objective(self, actor, temperature: float) -> LogLikelihood:
        return LogLikelihood()
