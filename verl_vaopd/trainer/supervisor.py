"""Run a command so that none of its descendants outlives it.

Ray daemons, vLLM engine cores and their workers are grandchildren that survive a killed driver. The supervisor makes
itself their reaper (``PR_SET_CHILD_SUBREAPER``: orphans are handed to it, not to init), passes SIGINT and SIGTERM on,
and when the command has ended ends whatever is left of its tree.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PR_SET_PDEATHSIG = 1


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {argument}) failed")


def end_descendants(grace_s: float = 5.0) -> int:
    """Terminate, then kill, every descendant of this process. Returns how many there were."""
    seen: set[int] = set()
    for send in ("terminate", "kill"):
        deadline = time.monotonic() + grace_s
        while children := psutil.Process().children(recursive=True):
            for child in children:
                seen.add(child.pid)
                try:
                    getattr(child, send)()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(children, timeout=0.2)
            if time.monotonic() > deadline:
                break
    return len(seen)


def run_supervised(command: list[str], env: dict[str, str] | None = None, grace_s: float = 60.0) -> int:
    """Run ``command`` and leave nothing of it behind.

    A first SIGINT or SIGTERM is passed to the command, which has ``grace_s`` seconds to end (it saves what it must);
    a second one, or the end of that time, kills it.

    Returns:
        The command's exit status; 128 + N when signal N ended it.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    state = {"asked_at": None, "signal": None, "hurry": False}

    def pass_on(signum, frame):
        state["hurry"] = state["asked_at"] is not None
        state["asked_at"] = state["asked_at"] or time.monotonic()
        state["signal"] = signum
        child.send_signal(signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

    # A session of its own: the terminal's Ctrl-C reaches only the supervisor, which decides what is told to whom.
    # If the supervisor is killed outright, the kernel ends the command too.
    child = subprocess.Popen(
        command, env=env, start_new_session=True, preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    )
    previous = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            try:
                status = child.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                asked_at = state["asked_at"]
                if asked_at is not None and (state["hurry"] or time.monotonic() - asked_at > grace_s):
                    print("verl-vaopd: ending the run now", file=sys.stderr, flush=True)
                    child.kill()
        end_descendants()
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if status < 0:
        return 128 - status
    return status


def current_process_is_supervised() -> bool:
    """Whether this process was started by :func:`run_supervised` (told by the environment)."""
    return os.environ.get("VAOPD_SUPERVISED") == "1"
