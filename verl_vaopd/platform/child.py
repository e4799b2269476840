"""What Linux does for a process and its children (prctl(2))."""

import ctypes
import os
import signal

SET_PDEATHSIG, SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def die_with_parent(signum: int = signal.SIGTERM) -> None:
    """In a child, or as ``preexec_fn`` of one: it gets ``signum`` when its parent ends, however that ends."""
    _prctl(SET_PDEATHSIG, signum)


def become_reaper() -> None:
    """Have orphaned descendants handed to this process."""
    _prctl(SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument}): {os.strerror(ctypes.get_errno())}")
