"""What a node of a cluster is told before Ray starts on it."""

import os
import subprocess
import sys

import pytest

from verl_vaopd.launch import cluster


@pytest.mark.parametrize(
    "arguments, added",
    [
        (["--head", "--node-ip-address=10.0.0.5", "--port=1"], None),
        (["--head", "--node-ip-address", "10.0.0.5"], None),
        (["--address=127.0.0.1:6379"], "127.0.0.1"),
        (["--address", "localhost:6379", "--num-cpus=1"], "127.0.0.1"),
    ],
)
def test_a_node_has_the_address_by_which_it_reaches_the_head(arguments, added):
    wanted = [*arguments, f"--node-ip-address={added}"] if added else arguments
    assert cluster.with_address(arguments) == (wanted, added or "10.0.0.5")


@pytest.mark.parametrize(
    "shown, default, address",
    [
        ("fd00::12 10.0.0.5", None, "10.0.0.5"),
        ("fd00::12 169.254.3.4 127.0.1.1 10.0.0.5", None, "10.0.0.5"),
        ("192.168.122.1 10.0.0.5 fd00::12", "10.0.0.5", "10.0.0.5"),
        ("192.168.122.1 10.0.0.5", None, None),  # two networks, and nothing tells which is the nodes'
        ("fd00::12", None, None),
    ],
)
def test_without_a_name_of_another_node_its_own_addresses_must_tell(monkeypatch, shown, default, address):
    def own_address(name):
        if name == "192.0.2.1" and default:
            return default
        raise OSError

    monkeypatch.setattr(cluster, "own_address", own_address)
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 0, stdout=shown))
    if address:
        assert cluster.address_for(["node2"]) == address
    else:
        with pytest.raises(ValueError, match="none of node2 resolves, .* set NODE_ADDRESS"):
            cluster.address_for(["node2"])


def test_the_way_to_another_node_tells(monkeypatch):
    monkeypatch.setattr(cluster, "own_address", {"10.1.0.9": "10.1.0.7"}.__getitem__)
    assert cluster.address_for(["10.1.0.9", "node2"]) == "10.1.0.7"
    assert cluster.address_for([]) == "127.0.0.1"  # a node alone keeps to itself


def test_the_environment_of_a_node(tmp_path, monkeypatch):
    """What Ray is started with, and so its workers; ray itself is a stand-in."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ray").write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\nenv >{tmp_path}/environment\n')
    (programs / "ray").chmod(0o755)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "VLLM_HOST_IP", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    code = (
        "import sys; from verl_vaopd.launch import cluster; sys.executable = sys.argv.pop(1); sys.exit(cluster.main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(programs / "python"), "node", "--address=127.0.0.1:1"], timeout=60
    )
    assert ended.returncode == 0
    environment = dict(
        line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line
    )
    assert (tmp_path / "arguments").read_text() == "start --block --address=127.0.0.1:1 --node-ip-address=127.0.0.1\n"
    assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == "lo"
    assert environment["VLLM_HOST_IP"] == "127.0.0.1"
    assert environment["PATH"].startswith(f"{programs}:")
    assert environment["RAY_TMPDIR"].endswith(f"verl_vaopd-{os.getuid()}")
