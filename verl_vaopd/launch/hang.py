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
STACKS_S = 300
"""What keeping the stacks may take; then the run ends without the rest of them."""


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

    def __init__(self, folder: str, end: Callable[[Hung], None], every_s: float = 2.0, clock=time.monotonic):
        self.folder, self.hung = folder, None
        self._end, self._every_s, self._clock = end, every_s, clock
        self._seen: dict | None = None
        self._stretch_since = self._phase_since = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="hang watch", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closed.set()

    def _look_on(self) -> None:
        while not self._closed.wait(self._every_s):
            if hung := self.look():
                self.hung = hung
                self._end(hung)
                return

    def look(self) -> Hung | None:
        """What hangs by now, if anything does; its stacks are then kept."""
        now, phase = self._clock(), read_phase(self.folder)
        if phase is None:
            return None
        if self._seen is None or phase["stretch"] != self._seen["stretch"]:
            self._stretch_since = now
        if phase != self._seen:
            self._phase_since = now
        self._seen = phase
        took = now - self._stretch_since
        if phase["limit_s"] is None or took <= phase["limit_s"]:
            return None
        inside = f", in {phase['phase']!r} for {now - self._phase_since:.0f} s" * (phase["phase"] != phase["what"])
        said = f"{phase['what']} hangs: {took:.0f} s{inside} (more than {phase['limit_s']:.0f} s: {phase['why']})"
        return Hung(said + self._keep_stacks(phase["what"].replace(" ", "_")))

    def _keep_stacks(self, name: str) -> str:
        """Where they are, and who is stopped. What hangs may hang here too, a disk or Ray: so it has a time limit."""
        path, stopped = os.path.join(self.folder, FAULTS, f"hang_{name}.txt"), []

        def write():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                stopped.extend(stacks_of_run(f))

        writing = threading.Thread(target=write, name="stacks", daemon=True)  # its own error goes to worker.log
        writing.start()
        writing.join(STACKS_S)
        by_signal = f"; stopped by a signal: {', '.join(stopped)}" * bool(stopped)
        kept = f"the stacks of all processes: {path}" if os.path.exists(path) else "its stacks could not be kept"
        return f"{by_signal}; {kept}"
