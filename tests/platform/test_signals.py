"""SIGTERM stays blocked where a node of a job is to outlive it."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, os, signal
from verl_vaopd.platform.signals import hold_sigterm

def blocked(_=None):
    return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])

if __name__ == "__main__":
    if {hold}:
        hold_sigterm()
    pool = multiprocessing.get_context("spawn").Pool(1)  # as vLLM starts its engine
    print(blocked(), *pool.map(blocked, [0]))
    pool.close()
    pool.join()
"""


def mask_after_multiprocessing(tmp_path, hold: bool) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(hold=hold))
    held = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); "
    command = [sys.executable, "-c", held + "os.execv(sys.executable, [sys.executable, sys.argv[1]])", path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_multiprocessing_unblocks_sigterm_unless_it_is_held(tmp_path):
    assert mask_after_multiprocessing(tmp_path, hold=False) == "False False"  # why the module is there
    assert mask_after_multiprocessing(tmp_path, hold=True) == "True True"


@pytest.mark.slow
def test_the_plugin_of_verl_holds_it_on_a_node_of_the_cluster_module():
    ask = "print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    code = f"import signal, verl_vaopd.platform.plugin; {ask}"
    for value, held in (("1", "True"), ("", "False")):
        env = {**os.environ, "VAOPD_HOLD_SIGTERM": value, "VERL_PLATFORM": ""}
        shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert shown.stdout.strip() == held, shown.stderr
