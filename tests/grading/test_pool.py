"""A grading call ends whatever sympy does, and nothing is left when the process that asked is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from verl_vaopd.grading import pool
from verl_vaopd.grading.grading import same_answer
from verl_vaopd.grading.patience import SHORT

HANGS = "9^{9^{%d}}"  # sympy works it out, digit by digit; graders get it unasked here
ENDS = 60  # seconds; of a call that hangs without limits, on a busy machine
PARENT = """
import sys, threading, time
from verl_vaopd.grading import pool
assert pool.judge("\\\\sin x+1", "1+\\\\sin x")
print(pool._pool.process.pid, *[grader.pid for grader in pool._pool._idle], flush=True)
{then}
"""


@pytest.fixture
def own():
    own = pool.Pool(width=2)
    yield own
    own.close()


def gone(pid: int) -> bool:
    """Is there no such process, at most a dead one that nobody has waited for?"""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until(true) -> None:
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("not in 30 s")


def test_an_answer_that_never_ends_is_wrong():
    started = time.monotonic()
    assert pool.judge(HANGS % 9, "7") is False and time.monotonic() - started < ENDS
    assert pool.judge(r"\sin x+1", r"1+\sin x") is True


def test_others_are_not_held_up_and_many_that_hang_take_little(own, monkeypatch):
    """64 at half a second each would use 32 s of processor time; after the first ones each has a twentieth of one."""
    ask, granted = pool._Grader.ask, []

    def watched(grader, answer, truth, seconds):
        verdict = ask(grader, answer, truth, seconds)
        granted.append(seconds if verdict is None else 0)
        return verdict

    monkeypatch.setattr(pool._Grader, "ask", watched)
    with ThreadPoolExecutor(16) as threads:
        hanging = [threads.submit(judged, own, HANGS % n, "7") for n in range(9, 73)]
        right = [threads.submit(judged, own, rf"\sin x+{n}", rf"{n}+\sin x") for n in range(8)]
        assert not any(call.result(ENDS * 4) for call in hanging)
        assert sum(call.result(ENDS * 4) for call in right) >= 4  # in a twentieth of a second some may be lost
    assert len(granted) >= 72 and 64 * SHORT <= sum(granted) < 16


def judged(own, answer, truth):
    try:
        return own.judge(answer, truth)
    except pool._Unfinished:
        return False


def test_a_grader_that_is_killed_is_replaced(own):
    assert own.judge(r"\sin x+1", r"1+\sin x")
    first = own._idle[0].pid
    os.kill(first, signal.SIGKILL)
    assert own.judge(r"\sin x+2", r"2+\sin x")  # asked once more
    assert own._idle[0].pid != first and own._room == 1
    wait_until(lambda: gone(first))


def test_a_fork_server_that_is_killed_is_replaced_with_its_graders():
    assert pool.judge(r"\cos x+1", r"1+\cos x")
    server, graders = pool._pool.process.pid, [grader.pid for grader in pool._pool._idle]
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: all(map(gone, [server, *graders])))
    assert pool.judge(r"\cos x+2", r"2+\cos x") and pool._pool.process.pid != server


def test_a_grader_has_limits_and_no_secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    own = pool.Pool(width=1)
    assert own.judge(r"\sin x+1", r"1+\sin x")
    folder = Path(f"/proc/{own._idle[0].pid}")
    soft = {line[:25].strip(): line[25:].split()[0] for line in (folder / "limits").read_text().splitlines()}
    assert soft["Max address space"] == str(512 * 2**20)
    assert soft["Max file size"] == soft["Max core file size"] == "0"
    assert (folder / "oom_score_adj").read_text().strip() == "1000"
    assert "PYTHONHASHSEED" in (folder / "environ").read_text()
    assert "hf_secret" not in (folder / "environ").read_text()
    own.close()


def test_memory_is_no_way_out(own):
    """2^(10^11) has 12 GiB."""
    assert judged(own, "2^{10^{11}}+1", "7") is False
    assert judged(own, r"\sin x+3", r"3+\sin x") is True


WORKS = "threading.Thread(target=pool.judge, args=('9^{9^{9}}', '7')).start(); time.sleep(600)"


@pytest.mark.parametrize("then", ["sys.exit()", "time.sleep(600)", WORKS], ids=["exits", "killed", "killed at work"])
def test_nothing_is_left_when_the_parent_is_gone(then):
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(then=then)], stdout=subprocess.PIPE, text=True)
    pids = list(map(int, parent.stdout.readline().split()))
    assert len(pids) == 2
    if "sleep" in then:
        parent.kill()
    parent.wait(ENDS)
    wait_until(lambda: all(map(gone, pids)))


def test_a_fork_of_the_process_gets_a_pool_of_its_own():
    """And does not wait for a lock that another thread held."""
    assert pool.judge(r"\tan x+1", r"1+\tan x")
    held = threading.Thread(target=lambda: (pool._lock.acquire(), time.sleep(2), pool._lock.release()))
    held.start()
    time.sleep(0.2)
    if (child := os.fork()) == 0:
        own = pool._pool is None and pool.judge(r"\tan x+2", r"2+\tan x")
        pool.close()
        os._exit(0 if own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.join()
    assert pool.judge(r"\tan x+3", r"3+\tan x")


def test_what_rules_decide_starts_no_process_and_imports_no_sympy():
    code = """
import sys
from verl_vaopd.data.reward import compute_score
assert compute_score("any", "\\\\boxed{2\\\\sqrt{3}}", "\\\\sqrt{12}")["acc"] == 1.0
assert compute_score("any", "\\\\boxed{(x+1)^2}", "x^2+2x+1")["acc"] == 1.0
from verl_vaopd.grading import pool
assert pool._pool is None
assert not {"sympy", "torch", "verl", "math_verify"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_that_does_not_start_says_so(monkeypatch):
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="grading process did not start .exit status 1."):
        pool.Pool()


def test_same_answer_asks_a_grader_last():
    assert same_answer(r"\sin^2 x+\cos^2 x", "1") and not same_answer(r"\sin^2 x", "1")
