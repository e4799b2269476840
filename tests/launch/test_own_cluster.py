"""A run's own Ray cluster: loopback, a token of 0600, a folder of the user's own; the user's settings win."""

import inspect
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from verl_vaopd.launch.own_cluster import keep_private, ray_logs
from verl_vaopd.platform import loopback


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_cluster_of_the_runs_own_keeps_to_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    environ = {}
    keep_private(environ)
    folder = environ["RAY_TMPDIR"]
    assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    assert ray_logs(environ) == f"{folder}/ray/session_latest/logs"
    assert environ == {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_TMPDIR": folder,
        "VLLM_RPC_BASE_PATH": folder,
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "RAY_task_events_max_num_task_in_gcs": "5000",
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
    }


def test_what_the_user_set_stays(tmp_path):
    environ = {"NCCL_SOCKET_IFNAME": "eth1", "RAY_TMPDIR": "/scratch", "RAY_AUTH_TOKEN": "t"}
    keep_private(environ)
    assert environ["NCCL_SOCKET_IFNAME"] == "eth1" and environ["RAY_TMPDIR"] == "/scratch"
    assert not (tmp_path / ".ray").exists()


def test_rays_token_is_readable_by_the_user_alone(tmp_path):
    keep_private({})
    token = tmp_path / ".ray" / "auth_token"
    first = token.read_text()
    assert len(first) == 64 and stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)  # as Ray would have written it
    keep_private({})
    assert token.read_text() == first and stat.S_IMODE(token.stat().st_mode) == 0o600
    assert [path.name for path in token.parent.iterdir()] == ["auth_token"]


def test_tokens_cannot_be_switched_off():
    with pytest.raises(ValueError, match="RAY_AUTH_MODE='disabled': unset it"):
        keep_private({"RAY_AUTH_MODE": "disabled"})


def test_a_long_tmpdir_is_left_for_tmp(tmp_path, monkeypatch):
    """A TMPDIR of 60 characters, as in a Slurm job: with Ray's 70 no path of a socket has 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="x" * 47) as folder:  # /tmp/, the x and 8 characters
        assert len(folder) == 60
        monkeypatch.setattr(tempfile, "tempdir", folder)
        environ = {}
        keep_private(environ)
    assert environ["RAY_TMPDIR"] == environ["VLLM_RPC_BASE_PATH"] == f"/tmp/verl_vaopd-{os.getuid()}"
    assert "TMPDIR" not in environ
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("y" * 90)))  # multiprocessing's own sockets have no room
    os.makedirs(tempfile.tempdir)
    environ = {}
    keep_private(environ)
    assert environ["TMPDIR"] == environ["RAY_TMPDIR"] == f"/tmp/verl_vaopd-{os.getuid()}"


def test_a_long_folder_of_the_users_own_is_refused():
    with pytest.raises(ValueError, match="RAY_TMPDIR=/x+: paths .* exceed 107 bytes: unset it, .* at most 37"):
        keep_private({"RAY_TMPDIR": "/" + "x" * 37})
    keep_private({"RAY_TMPDIR": "/" + "x" * 36})


def test_rays_part_of_a_path_is_what_ray_adds():
    """Ray's own words: session_{date}_{pid}, sockets/plasma_store with a number for a second one of a machine."""
    from ray._private import node

    source = inspect.getsource(node)
    assert "%Y-%m-%d_%H-%M-%S_%f" in source and '"plasma_store"' in source and '"sockets"' in source
    assert loopback.RAYS_PART == len("/ray/") + len("session_") + 26 + len("_4194304") + len("/sockets/plasma_store.9")
