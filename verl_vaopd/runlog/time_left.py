"""How long a run still takes, by what its own steps, validations and saves took."""

from collections import deque
from statistics import median

RECENT_STEPS = 20


class TimeLeft:
    """The time that is left after a step, for the step's line.

    Args:
        steps: the last step's number.
        test_freq, save_freq: every how many steps there is a validation, a checkpoint; the last step has both. Below 1:
            never.
    """

    def __init__(self, steps: int, test_freq: int = -1, save_freq: int = -1):
        self.steps = steps
        self.every = {"testing": test_freq, "save_checkpoint": save_freq}
        self.took: dict[str, float] = {}
        self.recent = deque(maxlen=RECENT_STEPS)

    def after(self, step: int, times: dict[str, float]) -> str:
        """Words such as "  3 min left", two spaces before them; none after the last step.

        Args:
            times: seconds of the step: "step", and of what happened in it "save_checkpoint", which is a part of it, and
                "testing", which is not.
        """
        self.took |= {name: times[name] for name in self.every if name in times}
        self.recent.append(times["step"] - times.get("save_checkpoint", 0.0))
        if step >= self.steps:
            return ""
        seconds = (self.steps - step) * median(self.recent)
        seconds += sum(self._times_left(step, self.every[name]) * took for name, took in self.took.items())
        return f"  {duration(seconds)} left"

    def _times_left(self, step: int, every: int) -> int:
        """How many steps after ``step`` are multiples of ``every``, or the last."""
        if every < 1:
            return 0
        return self.steps // every - step // every + (self.steps % every > 0)


def duration(seconds: float) -> str:
    """In the unit that keeps the number short: "45 s", "12 min", "5.6 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
