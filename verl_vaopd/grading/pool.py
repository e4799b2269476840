"""Graders: processes that ask sympy, each answer for a limited time. One pool a process, started at its first use."""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from functools import lru_cache

from verl_vaopd.grading.patience import LIMIT, Patience

WIDTH = min(16, max(2, len(os.sched_getaffinity(0))))
_CLOCK_LIMIT = 2.0  # seconds by the clock, of an answer, on a machine that has no processor to spare
_START_LIMIT = 120.0  # seconds; the imports take one
_FORK_LIMIT = 15.0  # a fork takes hundredths; then the fork server is taken for dead
_ANSWERS = 1000  # that a grader gives before it makes room: sympy's caches grow
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")


class _Unfinished(Exception):
    """No verdict within a limit shorter than ``LIMIT``."""


class _Grader:
    def __init__(self, pid: int, connection: socket.socket):
        self.pid, self.connection, self.answers = pid, connection, 0

    def ask(self, answer: str, truth: str, seconds: float) -> bool | None:
        """The verdict; None if the grader ended before, or needs too long by the clock."""
        self.connection.settimeout(_CLOCK_LIMIT)
        self.answers += 1
        try:
            self.connection.send(json.dumps([answer, truth, seconds]).encode())
            return {b"1": True, b"0": False}.get(self.connection.recv(1))
        except (TimeoutError, ConnectionError):
            return None


class Pool:
    """At most ``width`` graders and the program that forks them (``fork_server.py``)."""

    def __init__(self, width: int = WIDTH):
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "verl_vaopd.grading.fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # No key of this process; and sets in the same order, so that an answer is always judged alike.
                env={name: os.environ[name] for name in _KEPT if name in os.environ}
                | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "0"},
            )
        self._control.settimeout(_START_LIMIT)
        if self._control.recv(64) != b"ready":
            raise RuntimeError(f"the grading process did not start (exit status {self.process.wait()}): see above")
        self._control.settimeout(_FORK_LIMIT)
        self.patience = Patience(width)
        self._idle: list[_Grader] = []
        self._room, self._changed = width, threading.Condition()
        self._control_lock = threading.Lock()

    def judge(self, answer: str, truth: str) -> bool:
        """Raises: _Unfinished; OSError or EOFError where the fork server has ended."""
        for _ in range(2):  # a grader that was ended from outside is not the answer's fault
            grader, seconds, started, verdict = self._take(), self.patience.limit(), time.monotonic(), None
            try:
                verdict = grader.ask(answer, truth, seconds)
            finally:
                self._give_back(grader, alive=verdict is not None and grader.answers < _ANSWERS)
            took = time.monotonic() - started
            if verdict is not None:
                return verdict
            if took >= seconds:
                self.patience.spend(seconds)
                break
        if seconds < LIMIT:
            raise _Unfinished
        return False

    def _take(self) -> _Grader:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._room)
            if self._idle:
                return self._idle.pop()
            self._room -= 1
        try:
            return self._fork()
        except BaseException:
            self._make_room()
            raise

    def _fork(self) -> _Grader:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._control_lock:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            if not (pid := self._control.recv(64)):
                raise EOFError("the fork server has ended")
        return _Grader(int(pid), ours)

    def _give_back(self, grader: _Grader, alive: bool) -> None:
        if alive:
            with self._changed:
                self._idle.append(grader)
                self._changed.notify()
            return
        grader.connection.close()
        try:
            with self._control_lock:
                self._control.send(str(grader.pid).encode())
        finally:
            self._make_room()

    def _make_room(self) -> None:
        with self._changed:
            self._room += 1
            self._changed.notify()

    def forget(self) -> None:
        """Close this process's ends; the fork server and its graders end when all are closed."""
        self._control.close()
        for grader in self._idle:
            grader.connection.close()

    def close(self) -> None:
        """End the fork server, which ends its graders."""
        self.forget()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_pool: Pool | None = None
_lock = threading.Lock()


def _running() -> Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool()
        return _pool


def close(pool: Pool | None = None) -> None:
    """End the pool of this process, or ``pool`` if that is still the one."""
    global _pool
    with _lock:
        if _pool is not None and pool in (None, _pool):
            _pool.close()
            _pool = None


def _after_fork() -> None:
    """A fork has its parent's sockets and perhaps a lock that nobody will release: it gets a pool of its own."""
    global _pool, _lock
    if _pool is not None:
        _pool.forget()
    _pool, _lock = None, threading.Lock()


@lru_cache(maxsize=4096)  # siblings often give the same answer
def _judge(answer: str, truth: str) -> bool:
    pool = _running()
    try:
        return pool.judge(answer, truth)
    except (OSError, EOFError):  # the fork server was killed: once more with another
        close(pool)
        return _running().judge(answer, truth)


def judge(answer: str, truth: str) -> bool:
    """Does ``answer`` say the same as ``truth``? Asks a grader; False if it does not end in its time (``patience.py``).

    Callable from any thread; others are not held up by an answer that does not end.

    Raises:
        RuntimeError: the fork server does not start.
    """
    try:
        return _judge(answer, truth)
    except _Unfinished:
        return False


atexit.register(close)
os.register_at_fork(after_in_child=_after_fork)
