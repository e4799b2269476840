"""A stretch that takes longer than it may: named, with the stacks of what this process started."""

import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from verl_vaopd.launch.hang import HangWatch
from verl_vaopd.runlog.phases import Phases

SLEEPER = "import time\ndef waits_for_ever():\n    time.sleep(1000)\nwaits_for_ever()"


@pytest.fixture
def children():
    started = [subprocess.Popen([sys.executable, "-c", SLEEPER]) for _ in range(2)]
    started[1].send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while psutil.Process(started[1].pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # the other one reaches its function
    yield started
    for each in started:
        each.kill()
        each.wait()


def watched(folder, limit_s: float, phases_do) -> HangWatch:
    ended = threading.Event()
    phases = Phases(str(folder), None, limit_s)
    with HangWatch(str(folder), lambda _: ended.set(), every_s=0.05) as watch:
        phases_do(phases)
        ended.wait(60 if limit_s < 1 else 0)
    return watch


def test_what_hangs_is_named_and_the_stacks_are_kept(tmp_path, children, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def do(phases):
        phases.begin("step 7")
        phases.enter("update of the student")

    said = str(watched(tmp_path, 0.5, do).hung)
    assert said.startswith("step 7 hangs: ") and "in 'update of the student' for" in said and "vaopd.hang_limit" in said
    assert f"stopped by a signal: {sys.executable}" in said and f"(pid {children[1].pid})" in said
    assert f"(pid {children[0].pid})" not in said
    stacks = (tmp_path / "faults" / "hang_step_7.txt").read_text()
    assert "waits_for_ever" in stacks and all(f"(pid {each.pid})" in stacks for each in children)


def test_a_stretch_that_ends_in_time_is_none(tmp_path):
    def do(phases):
        for step in range(30):  # 3 s in all: above the limit, no step is
            phases.begin(f"step {step}")
            time.sleep(0.1)
        phases.limit_s = None
        phases.begin("end")

    assert watched(tmp_path, 1.5, do).hung is None
