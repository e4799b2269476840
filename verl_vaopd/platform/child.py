"""What a child process does before it becomes another program."""

import ctypes
import signal


def die_with_parent() -> None:
    """For ``preexec_fn``: the child ends when its parent does, however that ends (Linux's PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
