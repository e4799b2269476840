"""How long the next answer may take, after others took too long."""

import threading
import time

LIMIT = 0.5  # seconds of processor time, of an answer; a usual one takes a hundredth
SHORT = 0.05  # where patience is spent
_FORGIVEN = 0.1  # of what was lost, seconds per second


class Patience:
    """``LIMIT`` for an answer, less what overruns of the last seconds took, shared by ``width`` graders.

    So a batch of answers that never end costs a second or two, not half a one each. Callable from any thread.
    """

    def __init__(self, width: int, clock=time.monotonic):
        self._width, self._clock = width, clock
        self._lost, self._seen = 0.0, clock()
        self._lock = threading.Lock()

    def limit(self) -> float:
        """Seconds of processor time that the next answer may use."""
        with self._lock:
            self._forgive()
            return max(SHORT, LIMIT - self._lost / self._width)

    def spend(self, seconds: float) -> None:
        """An answer used ``seconds`` of processor time and did not end."""
        with self._lock:
            self._forgive()
            self._lost = min(self._lost + seconds, self._width * LIMIT)

    def _forgive(self) -> None:
        now = self._clock()
        self._lost = max(0.0, self._lost - _FORGIVEN * self._width * (now - self._seen))
        self._seen = now
