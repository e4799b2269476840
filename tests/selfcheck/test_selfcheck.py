"""The command on the CPU, once; and what a wrong kernel, a broken check and a missing GPU make of it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from verl_vaopd.methods import method_names
from verl_vaopd.model import kernels
from verl_vaopd.selfcheck import __main__ as selfcheck
from verl_vaopd.selfcheck import processes
from verl_vaopd.selfcheck.check import FAILED, NOT_CHECKED, OK, at_most, guarded

pytestmark = pytest.mark.heavy  # three processes' worth of imports


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    output = tmp_path_factory.mktemp("selfcheck")
    command = [sys.executable, "-m", "verl_vaopd.cli", "selfcheck", "--full", "--output", output]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=env)
    return result, output


def test_nothing_fails_on_the_cpu_and_what_needs_a_gpu_is_listed(ran):
    result, output = ran
    assert result.returncode == 0, result.stdout + result.stderr
    checks = {check["name"]: check for check in json.loads((output / "selfcheck.json").read_text())["checks"]}
    missing = {name for name, check in checks.items() if check["verdict"] == NOT_CHECKED}
    assert {"attention flash_segments", "memory of the student's step", "two steps of the recipe: drift"} <= missing
    done = {name for name, check in checks.items() if check["verdict"] == OK}
    assert {f"one step of {method}" for method in method_names()} - done == {"one step of base"}
    assert {"saved on 1, resumed on 2 ranks", "saved on 2, resumed on 1 ranks"} <= done
    assert {"attention sdpa_segments: gradients", "two views in one forward"} <= done
    assert all(check["note"] for check in checks.values() if check["verdict"] == NOT_CHECKED)


def test_table_json_and_markdown_say_the_same(ran):
    result, output = ran
    content = json.loads((output / "selfcheck.json").read_text())
    assert content["machine"]["device"] == "cpu" and content["versions"]["torch"].startswith("2.11.0")
    page = (output / "selfcheck.md").read_text()
    assert len(page) < 65536  # characters that an issue takes
    for check in content["checks"]:
        assert check["name"] in result.stdout and f"| {check['name']} |" in page


def test_a_kernel_that_is_wrong_by_one_percent_fails(monkeypatch, tmp_path, capsys):
    right = kernels.sdpa_segments
    monkeypatch.setattr(kernels, "sdpa_segments", lambda *args: 1.01 * right(*args))
    monkeypatch.setattr(processes, "checks", lambda device: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert selfcheck.main(["--output", str(tmp_path)]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "sdpa_segments: forward" in line)
    assert FAILED in line and "0.01" in line


def test_a_missing_gpu_fails_where_one_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(processes, "checks", lambda device: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert selfcheck.main(["--output", str(tmp_path)]) == 0
    assert selfcheck.main(["--gpu", "--output", str(tmp_path)]) == 1
    assert "doctor --gpu" in capsys.readouterr().out


def test_a_check_that_breaks_fails_with_its_words_and_keeps_what_came_before():
    def run():
        yield at_most("first", 1, 2)
        raise RuntimeError("no kernel image")

    first, broken = guarded("second", run)
    assert first.verdict == OK
    assert (broken.name, broken.verdict, broken.note) == ("second", FAILED, "RuntimeError: no kernel image")
    assert at_most("third", float("nan"), 2).verdict == FAILED
