"""The supervisor leaves nothing behind: not on success, not on failure, not on Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

SUPERVISE = (
    "import sys; from verl_vaopd.trainer.supervisor import run_supervised; sys.exit(run_supervised(sys.argv[1:]))"
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
    assert process.wait(timeout=30) == status
    assert not psutil.pid_exists(daemon)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_everything(signum):
    process = supervise("time.sleep(600)")
    daemon = int(process.stdout.readline())
    time.sleep(0.3)
    os.kill(process.pid, signum)
    assert process.wait(timeout=30) != 0
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
    assert process.wait(timeout=30) == 128 + signal.SIGKILL
    assert not psutil.pid_exists(daemon)
