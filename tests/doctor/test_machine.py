"""What the doctor says of a machine, and that it needs no package for it; a GPU, a full disk are stood in for."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.stack import ROOT
from verl_vaopd.doctor import command, machine
from verl_vaopd.doctor.finding import Finding


def test_this_machine_is_fit_for_the_tiny_recipe(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(command.services, "ports", lambda: Finding("ports", "whatever runs here"))
    args = command.parse(["--cpu", "--output", str(tmp_path / "outputs")])
    assert [found for check in command.checks("cpu", args) if (found := check()).mend] == []


def programs(folder: Path, **shown: str) -> str:
    """A PATH with programs of these names that print these words, before the system's."""
    folder.mkdir()
    for name, words in shown.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{words}\nEND\n")
        program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


H100 = "NVIDIA H100 80GB HBM3, 81559, 580.65.06, 9.0"


def check_of_setup(tmp_path, path, *options):
    """``setup.sh --check``, as a GPU recipe calls it: no environment is there, and the interpreter has no package."""
    venv = tmp_path / "venv"
    env = {"PATH": path, "HOME": str(tmp_path), "VAOPD_VENV": str(venv), "PYTHON": sys._base_executable}
    ended = subprocess.run(
        ["bash", "scripts/setup.sh", "--gpu", "--check", "--output", tmp_path / "run", *options],
        cwd=ROOT, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert not ended.stderr and not venv.exists()
    lines = ended.stdout.splitlines()
    failed = {line[6:22].strip(): lines[index + 1] for index, line in enumerate(lines) if line.startswith("FAIL")}
    assert all(cure.strip().startswith("mend: ") for cure in failed.values())
    assert ended.returncode == (1 if failed else 0)
    return {line[6:22].strip(): line for line in lines}, failed


def test_the_machines_part_needs_no_package(tmp_path):
    path = programs(tmp_path / "bin", nvidia_smi="\n".join([H100] * 8))
    found, failed = check_of_setup(tmp_path, path, "--gpus", "8", "--gpu-memory", "80")
    assert "8: NVIDIA H100 80GB HBM3 with 80 GiB" in found["GPUs"] and "CUDA 13" in found["driver"]
    assert {"driver", "GPUs", "C library", "compiler", "sockets"}.isdisjoint(failed)
    assert ("memory" in failed) == (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 256e9)
    assert "to be fetched" in found["hub cache"] and {"environment", "disk", "/dev/shm", "open files"} <= set(found)


@pytest.mark.parametrize(
    "shown, options, name, says",
    [
        (H100.replace("580", "570"), (), "driver", "driver of branch 580 or newer"),
        ("Tesla V100-SXM2-32GB, 32768, 580.1, 7.0", (), "GPUs", "V100-SXM2-32GB has no bf16"),
        (H100, ("--gpus", "8"), "GPUs", "8 are wanted: N_GPUS_PER_NODE=1"),
        (
            "NVIDIA A100-SXM4-40GB, 40960, 580.1, 8.0",
            ("--gpu-memory", "80"),
            "GPUs",
            "80 GB are wanted: `verl-vaopd",
        ),
        ("No devices were found", (), "driver", "install NVIDIA's driver"),
    ],
)
def test_a_machine_that_is_unfit_by_its_gpus(tmp_path, shown, options, name, says):
    found, failed = check_of_setup(tmp_path, programs(tmp_path / "bin", nvidia_smi=shown), *options)
    assert says in failed[name] and "memory" in found  # the other checks are made all the same


@pytest.mark.parametrize("figure", ["[N/A]", "[Not Supported]", "[Unknown Error]", "ERR!"])
@pytest.mark.parametrize("field, name", [(1, "GPUs"), (2, "driver"), (3, "GPUs")])
def test_a_figure_that_nvidia_smi_does_not_tell(tmp_path, field, name, figure):
    """Memory is not told where the GPU shares the host's."""
    cells = H100.split(", ")
    cells[field] = figure
    path = programs(tmp_path / "bin", nvidia_smi=", ".join(cells))
    found, failed = check_of_setup(tmp_path, path, "--gpus", "1", "--gpu-memory", "80")
    assert figure in found[name] and {"driver", "GPUs"}.isdisjoint(failed)


def test_an_nvidia_smi_that_knows_no_compute_capability(tmp_path):
    path = programs(tmp_path / "bin", nvidia_smi="")
    (tmp_path / "bin/nvidia-smi").write_text(
        '#!/bin/sh\ncase "$*" in *compute_cap*) echo \'Field "compute_cap" is not a valid field\'; exit 2 ;; esac\n'
        "echo 'NVIDIA A100-SXM4-80GB, 81920, 470.57.02'\n"
    )
    found, failed = check_of_setup(tmp_path, path)
    assert (
        "A100-SXM4-80GB with 80 GiB, compute capability not told" in found["GPUs"] and "branch 580" in failed["driver"]
    )


def test_no_compiler_and_no_headers(tmp_path):
    programs(tmp_path / "bin", nvidia_smi=H100)
    for tool in ("bash", "cat", "sed", "dirname", "cut"):
        (tmp_path / "bin" / tool).symlink_to(f"/usr/bin/{tool}")
    _, failed = check_of_setup(tmp_path, str(tmp_path / "bin"))
    assert "python3" in failed["compiler"] and "gcc" in failed["compiler"]
    # A compiler that finds no headers, in gcc's words.
    (tmp_path / "bin/gcc").write_text("#!/bin/sh\necho 'x.c:2:10: fatal error: Python.h: No such file' >&2\nexit 1\n")
    (tmp_path / "bin/gcc").chmod(0o755)
    found, failed = check_of_setup(tmp_path, str(tmp_path / "bin"))
    assert "no Python.h in " in found["compiler"] and "-dev" in failed["compiler"]


@pytest.mark.parametrize(
    "release, says",
    [
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt-get install gcc libc6-dev python3."),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install gcc glibc-devel python3."),
        ({"ID": "sles", "ID_LIKE": "suse"}, "zypper install gcc glibc-devel python3"),
        ({"ID": "other"}, "apt-get install gcc libc6-dev .* or dnf install"),
    ],
)
def test_packages_are_named_as_the_system_names_them(monkeypatch, release, says):
    from verl_vaopd.doctor import compiler

    monkeypatch.setattr(compiler.platform, "freedesktop_os_release", lambda: release)
    assert re.search(says, compiler.packages())


def test_memory_that_is_wanted():
    small, large = ["Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"], ["a-2B", "Qwen/Qwen3-VL-32B-Instruct"]
    assert machine.memory_wanted(8, small) == 256 and machine.memory_wanted(8, large) == 512
    assert machine.memory_wanted(1, small) == 32 and machine.memory_wanted(8, ["/models/student", "x"]) == 256
    assert [machine.billions(name) for name in ("Qwen3-VL-2B-Instruct", "a-1.7B", "8Bit", "none")] == [2, 1.7, 0, 0]


def test_little_memory_by_the_machine_or_by_a_control_group(monkeypatch):
    assert "1e+06 GB are wanted: use a larger machine" in machine.host_memory(1e6).mend
    assert machine.host_memory(0.1).mend is None
    monkeypatch.setattr(machine, "memory_limit", lambda: 2e9)
    finding = machine.host_memory(8)
    assert finding.found.startswith("2 GB allowed of ") and "--mem=0" in finding.mend
    assert machine.host_memory(2).mend is None


def test_little_space_and_no_right_to_write(tmp_path, monkeypatch):
    folder = tmp_path / "not" / "yet"
    assert machine.free_space("disk", folder, 0.001, "free some").mend is None
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=3e9))
    assert machine.free_space("disk", folder, 120, "free some").mend == "120 GB are wanted: free some"
    assert machine.free_space("/dev/shm", folder, 2, "more").found == f"3.0 GB free for {folder}"
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert "cannot be written to" in machine.free_space("disk", folder, 1, "free some").found


def test_models_that_are_here_need_no_room(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=20e9))
    student, teacher = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
    assert "22 GB are wanted: set HF_HOME" in machine.room_for_models([student, teacher]).mend  # 10 x 2.2
    (tmp_path / "models--Qwen--Qwen3-VL-8B-Instruct/snapshots/a/").mkdir(parents=True)
    (tmp_path / "models--Qwen--Qwen3-VL-8B-Instruct/snapshots/a/config.json").touch()
    assert machine.models_to_fetch([student, teacher, str(tmp_path)]) == [student]
    assert machine.room_for_models([student, teacher]).mend is None


def test_a_run_that_goes_on_needs_no_room_for_checkpoints(tmp_path, monkeypatch):
    def disk(output):
        args = command.parse(["--gpu", "--output", str(output)])
        findings = [check() for check in command.on_machine("gpu", args)]
        return next(each for each in findings if isinstance(each, Finding) and each.name == "disk")

    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=100e9))
    assert "120 GB are wanted" in disk(tmp_path).mend
    (tmp_path / "checkpoints").mkdir()
    assert disk(tmp_path).mend is None


def test_few_open_files(monkeypatch):
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (1024, 65536))
    assert "ulimit -n 65536" in machine.open_files().mend
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (1024, 4096))
    assert "--ulimit nofile" in machine.open_files().mend
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (-1, -1))
    assert machine.open_files().mend is None


def test_paths_of_sockets(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert machine.sockets().mend is None
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="x" * 90) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        assert f"Ray's in /tmp/verl_vaopd-{os.getuid()}" in machine.sockets().found  # falls back
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 60)
    assert "unset RAY_TMPDIR" in machine.sockets().mend


def test_an_old_c_library(monkeypatch):
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("glibc", "2.28"))  # RHEL 8
    assert "glibc 2.31 or newer" in machine.glibc().mend
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))  # musl
    assert machine.glibc().mend
