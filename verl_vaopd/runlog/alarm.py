"""What an alarm is; which there are is said in ``trainer/alarms.py``."""

from dataclasses import dataclass

STOP, SKIP, WARN = "stop", "skip", "warn"


class StoppedByAlarm(RuntimeError):
    """An alarm whose rule is to stop: doing the step again would not help."""


@dataclass(frozen=True)
class Alarm:
    """name; rule: ``stop`` the run, ``skip`` the update or ``warn``; text; rows: places of the rollouts concerned among
    the step's, None if it concerns all of them."""

    name: str
    rule: str
    text: str
    rows: list[int] | None = None
