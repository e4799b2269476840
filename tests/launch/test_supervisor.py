"""The supervisor leaves nothing behind: not on success, not on failure, not on Ctrl-C."""

import os
import secrets
import signal
import subprocess
import sys
import time
from multiprocessing import shared_memory

import psutil
import pytest

from verl_vaopd.launch.shared_memory import removed_segments

SUPERVISE = (
    "import sys; from verl_vaopd.launch.supervisor import run_supervised; sys.exit(run_supervised(sys.argv[1:]))"
)
# A command whose grandchild detaches from everything, as Ray's daemons do.
LEAVES_A_DAEMON = """
import subprocess, sys, time
daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(daemon.pid, flush=True)
{then}
"""


def supervise(then: str):
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, sys.executable, "-c", LEAVES_A_DAEMON.format(then=then)],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("then, status", [("sys.exit(0)", 0), ("sys.exit(3)", 3)])
def test_daemons_end_with_the_command(then, status):
    process = supervise(then)
    daemon = int(process.stdout.readline())
    assert process.wait(timeout=300) == status
    assert not psutil.pid_exists(daemon)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_everything(signum):
    process = supervise("time.sleep(600)")
    daemon = int(process.stdout.readline())
    time.sleep(0.3)
    os.kill(process.pid, signum)
    assert process.wait(timeout=300) != 0
    assert not psutil.pid_exists(daemon)


def test_second_signal_does_not_wait():
    process = supervise(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)"
    )
    daemon = int(process.stdout.readline())
    assert process.stdout.readline() == "deaf\n"
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(1.2)
    assert process.wait(timeout=300) == 128 + signal.SIGKILL
    assert not psutil.pid_exists(daemon)


FAILS_UNTIL_THE_THIRD_TIME = """
import pathlib, sys
times = pathlib.Path(sys.argv[1])
times.write_text(times.read_text() + "." if times.exists() else ".")
sys.exit(0 if len(times.read_text()) == 3 else {status})
"""


@pytest.mark.parametrize("restarts, status, ran, ended", [(5, 1, 3, 0), (1, 1, 2, 1), (5, 2, 1, 2), (0, 1, 1, 1)])
def test_restarts(tmp_path, restarts, status, ran, ended):
    command = [sys.executable, "-c", FAILS_UNTIL_THE_THIRD_TIME.format(status=status), str(tmp_path / "times")]
    start = f"run_supervised({command!r}, restarts={restarts}, final=(0, 2))"
    code = f"import sys; from verl_vaopd.launch.supervisor import run_supervised; sys.exit({start})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert result.returncode == ended, result.stderr
    assert len((tmp_path / "times").read_text()) == ran
    assert result.stderr.count("starting again") == ran - 1


def test_a_run_that_is_asked_to_stop_is_not_started_again():
    code = LEAVES_A_DAEMON.format(then="time.sleep(600)")
    start = f"run_supervised({[sys.executable, '-c', code]!r}, restarts=3)"
    code = f"import sys; from verl_vaopd.launch.supervisor import run_supervised; sys.exit({start})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    daemon = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=300) == 128 + signal.SIGTERM
    assert not psutil.pid_exists(daemon)


LEAVES_MEMORY = """
import os, secrets, signal, verl_vaopd.platform.plugin
from multiprocessing import resource_tracker, shared_memory
segment = shared_memory.SharedMemory(create=True, size=4096)
weights = shared_memory.SharedMemory(create=True, size=4096, name="verl_weights_" + secrets.token_hex(16))
nccl = shared_memory.SharedMemory(create=True, size=4096, name="nccl-" + secrets.token_hex(3))
print(segment.name, weights.name, nccl.name, flush=True)
os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)  # as Ray does when its actor dies
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_shared_memory_of_killed_processes_is_removed():
    command = [sys.executable, "-c", SUPERVISE, sys.executable, "-c", LEAVES_MEMORY]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 128 + signal.SIGKILL
    own, weights, nccl = result.stdout.split()
    assert own.startswith("va") and not {own, weights, nccl} & set(os.listdir("/dev/shm"))


@pytest.mark.slow
def test_shared_memory_of_a_killed_supervisor_is_removed_by_the_next():
    left = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SUPERVISE,
            sys.executable,
            "-c",
            LEAVES_MEMORY.replace("os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getppid(), signal.SIGKILL)"),
        ],
        stdout=subprocess.PIPE,
    )
    names = set(left.communicate(timeout=600)[0].decode().split())
    assert left.returncode == -signal.SIGKILL and names <= set(os.listdir("/dev/shm"))
    subprocess.run([sys.executable, "-c", SUPERVISE, "true"], check=True, timeout=600)
    assert not names & set(os.listdir("/dev/shm"))


@pytest.mark.parametrize("name", ["verl_weights_", "nccl-"])
def test_segments_that_a_process_holds_stay(name):
    segment = shared_memory.SharedMemory(create=True, size=4096, name=name + secrets.token_hex(8))
    try:
        with removed_segments():
            os.utime(f"/dev/shm/{segment.name}")  # changed within the block
        assert os.path.exists(f"/dev/shm/{segment.name}")
    finally:
        segment.close()
        segment.unlink()
