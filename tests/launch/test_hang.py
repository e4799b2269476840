"""A stretch that takes longer than it may: named, with the stacks of what this process started."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.stack import ROOT
from verl_vaopd.launch import hang
from verl_vaopd.launch.hang import HangWatch
from verl_vaopd.runlog.phases import Phases

SLEEPER = "import time\ndef waits_for_ever():\n    print('there', flush=True)\n    time.sleep(1000)\nwaits_for_ever()"


@pytest.fixture
def children():
    """Two processes in a function that does not end; the second is stopped there."""
    started = [subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) for _ in range(2)]
    assert all(each.stdout.readline() == b"there\n" for each in started)
    started[1].send_signal(signal.SIGSTOP)
    while psutil.Process(started[1].pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    yield started
    for each in started:
        each.kill()
        each.communicate()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(folder) -> tuple[Phases, HangWatch, Clock]:
    return Phases(str(folder), None, 100), HangWatch(str(folder), pytest.fail, clock=(clock := Clock())), clock


def test_what_hangs_is_named_and_the_stacks_are_kept(tmp_path, children, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    phases, watch, clock = watched(tmp_path)
    assert watch.look() is None  # nothing was said yet
    phases.begin("step 7")
    assert watch.look() is None
    clock.now = 60
    phases.enter("update of the student")
    assert watch.look() is None
    clock.now = 101
    said = str(watch.look())
    assert said.startswith(
        "step 7 hangs: 101 s, in 'update of the student' for 41 s (more than 100 s: vaopd.hang_limit)"
    )
    assert f"stopped by a signal: {sys.executable}" in said and f"(pid {children[1].pid})" in said
    assert f"(pid {children[0].pid})" not in said
    stacks = (tmp_path / "faults" / "hang_step_7.txt").read_text()
    assert "waits_for_ever" in stacks and all(f"(pid {each.pid})" in stacks for each in children)


def test_each_stretch_has_its_own_time(tmp_path):
    phases, watch, clock = watched(tmp_path)
    for step in range(5):
        phases.begin(f"step {step}")
        assert watch.look() is None
        clock.now += 99  # 495 in all
        assert watch.look() is None
    phases.limit_s = None
    phases.begin("end")
    clock.now += 10**6
    assert watch.look() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", ["fails", "hangs"])
def test_a_run_ends_even_if_its_stacks_cannot_be_had(tmp_path, monkeypatch, fault):
    monkeypatch.setattr(hang, "STACKS_S", 0.1)
    never = threading.Event()
    monkeypatch.setattr(hang, "stacks_of_run", lambda file: [str(never.wait())] if fault == "hangs" else file.nothing)
    phases, watch, clock = watched(tmp_path)
    phases.begin("start-up")
    watch.look()
    clock.now = 101
    assert "start-up hangs" in str(watch.look())
    never.set()


def test_the_watch_looks_by_itself_and_ends_the_run_once(tmp_path):
    ended, clock = threading.Event(), Clock()
    watch = HangWatch(str(tmp_path), lambda hung: ended.set(), every_s=0.01, clock=clock)
    Phases(str(tmp_path), None, 100).begin("start-up")
    with watch:
        while watch._seen is None:
            time.sleep(0.01)
        clock.now = 101
        assert ended.wait(60)
    assert "start-up hangs" in str(watch.hung)


ON_A_CLUSTER = """
import io, os, ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
os.environ["RAY_ADDRESS"] = "joined"
from verl_vaopd.launch.stacks import stacks_of_run

@ray.remote(num_cpus=0)
class Waits:
    def waits_for_ever(self):
        import time
        time.sleep(1000)
    def pid(self):
        return os.getpid()

waits, stopped = Waits.remote(), Waits.remote()
pid = ray.get(stopped.pid.remote())
asked = waits.waits_for_ever.remote()
os.kill(pid, 19)
print("STOPPED", stacks_of_run(file := io.StringIO()), pid)
print(file.getvalue())
os.kill(pid, 9)
"""


@pytest.mark.slow
def test_on_a_cluster_the_nodes_are_asked():
    """Ray's workers of a node, by a task there; real Ray."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    shown = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    line = next(line for line in shown.stdout.splitlines() if line.startswith("STOPPED"))
    assert line.count("ray::Waits") == 1 and f"pid {line.split()[-1]})" in line
    assert "waits_for_ever" in shown.stdout
