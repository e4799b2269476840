"""``base``: the student as it is, evaluated only. Where VA is wanted a teacher scores its held-out answers."""

from verl_vaopd.methods.interface.method import Method, Step, Weighed


class Base(Method):
    title = "Base"
    learns_by = "nothing"

    @property
    def teacher_views(self) -> int:
        return 2 if self.settings.degraded_view else 0

    @property
    def follows(self) -> tuple[str, ...]:
        return (*super().follows, "degraded_view")

    def prepare(self, config) -> None:
        config.trainer.val_only = config.trainer.val_before_train = True

    def weigh(self, step: Step) -> Weighed:
        raise TypeError(f"{self.name} takes no step")

    def objective(self, actor, temperature):
        return None
