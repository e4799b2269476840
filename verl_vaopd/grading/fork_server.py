"""The program that graders are forked from, and a grader's loop. ``pool.py`` starts it, once per process.

It has one thread and the grading imports, done and warm: a grader that was killed is replaced in milliseconds.
"""

import gc
import json
import os
import resource
import signal
import socket
import sys

from verl_vaopd.grading.backends import equal
from verl_vaopd.grading.rules import judge
from verl_vaopd.platform.child import die_with_parent

MEMORY = 512 * 2**20  # bytes of address space; a grader has about 80 MB after its imports
MESSAGE = 2**16  # bytes of one message at most
FORK = b"fork"
_LOOK_FOR_PARENT = 1.0  # seconds
_WARM_UP = [(r"\sin x+1", r"1+\sin x"), (r"\tan 60°", r"\sqrt{3}"), (r"2\ln 3", r"\ln 9"), (r"\int_0^2 y dy", "2")]


def main(control: socket.socket) -> None:
    """Fork a grader for each ``fork`` (its socket comes along, its pid goes back), end one for each pid, until the
    parent is gone. The socket closes with the parent, however it ends; a fork of the parent may hold it open, so
    the parent's pid is looked at too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    for answer, truth in _WARM_UP:
        judge(answer, truth, equal)
    gc.freeze()  # what is shared with the graders stays shared
    _silence()
    control.send(b"ready")
    control.settimeout(_LOOK_FOR_PARENT)
    graders: set[int] = set()
    while os.getppid() == parent:
        try:
            message, sockets, *_ = socket.recv_fds(control, 64, 1)
        except TimeoutError:
            continue
        if not message:
            break
        if message == FORK:
            if (pid := os.fork()) == 0:
                control.close()
                _grade(socket.socket(fileno=sockets[0]))
            os.close(sockets[0])
            graders.add(pid)
            control.send(str(pid).encode())
        else:
            _end(pid := int(message))
            graders.remove(pid)
    for pid in graders:
        _end(pid)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)  # the pid is still its own: nobody else waits for it
    os.waitpid(pid, 0)


def _silence() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)


def _grade(requests: socket.socket) -> None:
    """Answer ``[answer, truth, seconds]`` with ``1`` or ``0``. The kernel ends this process when it has used so many
    seconds of processor time, or with the fork server."""
    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with open("/proc/self/oom_score_adj", "w") as first_to_go:
        first_to_go.write("1000")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for nothing in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(nothing, (0, 0))
    while request := requests.recv(MESSAGE):
        answer, truth, seconds = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            same = judge(answer, truth, equal)
        except Exception:  # whatever sympy makes of it, MemoryError and RecursionError too
            same = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        requests.send(b"1" if same else b"0")
    os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
