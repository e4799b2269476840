"""Keeping SIGTERM blocked in a process that uses multiprocessing."""

import signal
from multiprocessing import resource_tracker

HOLD_SIGTERM = "VAOPD_HOLD_SIGTERM"
"""Environment variable: Ray's node was started with SIGTERM blocked, and its workers shall stay so."""


def hold_sigterm() -> None:
    """Block SIGTERM in this thread for good, and in what it starts.

    A blocked signal survives fork and exec, but multiprocessing's resource tracker unblocks it in the thread that
    starts the tracker. So that is done here and now, and the signal is blocked after it.
    """
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
