"""Run a command so that none of its descendants outlives it.

Ray daemons, vLLM engine cores and their workers are grandchildren that survive a killed driver. The supervisor makes
itself their reaper (``PR_SET_CHILD_SUBREAPER``: orphans are handed to it, not to init), passes SIGINT and SIGTERM on,
and when the command has ended ends whatever is left of its tree, and removes the shared memory that it left.
"""

import os
import signal
import subprocess
import sys
import time

import psutil

from verl_vaopd.launch.shared_memory import removed_segments
from verl_vaopd.platform.child import become_reaper, die_with_parent
from verl_vaopd.platform.segments import SEGMENT_PREFIX


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


GRACE_S = {signal.SIGINT: 60.0, signal.SIGTERM: 900.0}
"""Seconds from a first signal to the end. SIGTERM asks for a checkpoint, which waits for the step to end."""
ONE_REQUEST_S = 1.0


def run_supervised(
    command: list[str],
    env: dict[str, str] | None = None,
    grace_s: dict[int, float] | None = None,
    restarts: int = 0,
    final: tuple[int, ...] = (0,),
) -> int:
    """Run ``command`` and leave nothing of it behind: no process, no shared memory.

    A first SIGINT or SIGTERM is passed to the command, which has ``grace_s[signal]`` seconds to end (default
    ``GRACE_S``); a later one, or the end of that time, kills it. Signals within ``ONE_REQUEST_S`` are one: a job system
    signals every process of a job, and each may pass it on.

    Args:
        restarts: how often the command is run again when it ends with another status than ``final``, unasked.
    Returns:
        The command's exit status; 128 + N when signal N ended it.
    """
    become_reaper()
    grace_s = grace_s or GRACE_S
    state = {"asked_at": None, "signal": None, "hurry": False, "child": None}

    def pass_on(signum, frame):
        now = time.monotonic()
        if state["asked_at"] is not None:
            state["hurry"] = now - state["asked_at"] > ONE_REQUEST_S
            if not state["hurry"]:
                return
        state["asked_at"] = state["asked_at"] or now
        state["signal"] = signum
        if state["child"]:
            state["child"].send_signal(signum)

    # A session of its own: the terminal's Ctrl-C reaches only the supervisor, which decides what is told to whom.
    # If the supervisor is killed outright, the kernel ends the command too.
    def prepare():
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job, and what it starts, would ignore it

    def run_once(segments: str) -> int:
        child = state["child"] = subprocess.Popen(
            command,
            env={**(os.environ if env is None else env), SEGMENT_PREFIX: segments},
            start_new_session=True,
            preexec_fn=prepare,
        )
        if state["signal"]:  # it came between two attempts
            child.send_signal(state["signal"])
        while True:
            try:
                status = child.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                asked_at = state["asked_at"]
                if asked_at is not None and (state["hurry"] or time.monotonic() - asked_at > grace_s[state["signal"]]):
                    print("verl-vaopd: ending the run now", file=sys.stderr, flush=True)
                    child.kill()
        end_descendants()
        return 128 - status if status < 0 else status

    previous = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            with removed_segments() as prefix:
                status = run_once(prefix)
            if status in final or restarts == 0 or state["asked_at"] is not None:
                return status
            restarts -= 1
            left = f"{restarts} restart{'s' * (restarts != 1)} left"
            print(f"verl-vaopd: ended with status {status}; starting again ({left})", file=sys.stderr, flush=True)
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def current_process_is_supervised() -> bool:
    """Whether this process was started by :func:`run_supervised` (told by the environment)."""
    return os.environ.get("VAOPD_SUPERVISED") == "1"
