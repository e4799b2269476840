"""A run that goes on living and does nothing: noticed, named, its processes' stacks kept, ended.

Nobody dies in a hang: a worker that waits for ever in a collective, a server that never answers, a process stopped by a
signal. What shows is the time: the driver says what it is doing and how long that may take (``runlog/phases.py``).
"""

import os
import threading
import time
from collections.abc import Callable

from verl_vaopd.launch.stacks import stacks_of_run
from verl_vaopd.runlog.phases import read_phase

FAULTS = "faults"


class Hung(RuntimeError):
    """What hangs, since when, and where the stacks are."""


class HangWatch:
    """Calls ``end`` with the :class:`Hung` when a stretch of the run takes longer than it may; a context manager.

    The clock is this process's: the driver may be on another node.

    Args:
        folder: of the run.
        end: ends the run.
        every_s: seconds between looks.
    """

    def __init__(self, folder: str, end: Callable[[Hung], None], every_s: float = 2.0):
        self.folder, self.hung = folder, None
        self._end, self._every_s = end, every_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="hang watch", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closed.set()

    def _look_on(self) -> None:
        seen, stretch_since, phase_since = None, 0.0, 0.0
        while not self._closed.wait(self._every_s):
            now, phase = time.monotonic(), read_phase(self.folder)
            if phase is None:
                continue
            if seen is None or phase["stretch"] != seen["stretch"]:
                stretch_since = now
            if phase != seen:
                phase_since = now
            seen = phase
            if phase["limit_s"] is not None and now - stretch_since > phase["limit_s"]:
                self.hung = Hung(self._said(phase, now - stretch_since, now - phase_since))
                self._end(self.hung)
                return

    def _said(self, phase: dict, stretch_s: float, phase_s: float) -> str:
        path = os.path.join(self.folder, FAULTS, f"hang_{phase['what'].replace(' ', '_')}.txt")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            stopped = stacks_of_run(f)
        inside = "" if phase["phase"] == phase["what"] else f", in {phase['phase']!r} for {phase_s:.0f} s"
        return (
            f"{phase['what']} hangs: {stretch_s:.0f} s{inside} (more than {phase['limit_s']:.0f} s: {phase['why']})"
            + (f"; stopped by a signal: {', '.join(stopped)}" if stopped else "")
            + f"; the stacks of all processes: {path}"
        )
