"""A run's own Ray cluster: loopback, a token of 0600, a folder of the user's own; the user's settings win."""

import stat
import tempfile

import pytest

from verl_vaopd.launch.own_cluster import keep_private, ray_logs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_cluster_of_the_runs_own_keeps_to_this_machine(tmp_path):
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
