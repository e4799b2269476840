"""What a run is doing and how long that may take: written by the driver, read by the process that watches over it."""

import json
import os
from collections import deque
from statistics import median

PHASE = "phase.json"
"""In the run's folder."""
FEW_STEPS = 3
"""Before so many steps have ended, nothing is known of how long one takes."""


class Phases:
    """Written by the driver.

    Args:
        folder: of the run.
        factor: a step may take so many times the median of the last 20 (``vaopd.hang_factor``); None: any time.
        limit_s: seconds for what is no step, and for the first steps (``vaopd.hang_limit``); None: any time.
    """

    def __init__(self, folder: str, factor: float | None, limit_s: float | None):
        self.path, self.factor, self.limit_s = os.path.join(folder, PHASE), factor, limit_s
        self.recent: deque[float] = deque(maxlen=20)
        self.stretch, self.what, self._of_a_step = 0, "", False

    def begin(self, what: str, of_a_step: bool = False) -> None:
        """A stretch that has its own time limit begins, such as "step 12" or "validation"."""
        self.stretch, self.what, self._of_a_step = self.stretch + 1, what, of_a_step
        self.enter(what)

    def enter(self, phase: str) -> None:
        """A part of the stretch begins."""
        text = json.dumps(
            {
                "stretch": f"{os.getpid()} {self.stretch}",
                "what": self.what,
                "phase": phase,
                "limit_s": self._limit(),
                "why": self._why(),
            }
        )
        with open(self.path + ".tmp", "w") as f:
            f.write(text)
        os.replace(self.path + ".tmp", self.path)

    def step_took(self, seconds: float) -> None:
        self.recent.append(seconds)

    def _is_known(self) -> bool:
        return self._of_a_step and len(self.recent) >= FEW_STEPS

    def _limit(self) -> float | None:
        if not self._is_known():
            return self.limit_s
        return None if self.factor is None else self.factor * max(1.0, median(self.recent))

    def _why(self) -> str:
        if not self._is_known():
            return "vaopd.hang_limit"
        return f"vaopd.hang_factor times the median of the last steps, {median(self.recent):.1f} s"


def read_phase(folder: str) -> dict | None:
    """What :class:`Phases` wrote last; None before that, or where it cannot be read just now."""
    try:
        with open(os.path.join(folder, PHASE)) as f:
            return json.load(f)
    except OSError:  # not there yet, or just replaced on a disk of the network
        return None
