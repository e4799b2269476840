"""The address and the interface by which the other nodes of a cluster reach this one."""

import os
import socket
import subprocess
import sys

import psutil
import pytest

from verl_vaopd.platform.interfaces import interface_of, own_address, use_interface_of


def test_the_address_is_that_of_the_way_to_the_other_node():
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("localhost") == "127.0.0.1"  # which is ::1 as well
    with pytest.raises(OSError):
        own_address("no-such-node.invalid")


def test_ipv4_is_taken_where_there_is_both(monkeypatch):
    ways = [(socket.AF_INET6, 2, 17, "", ("::1", 9, 0, 0)), (socket.AF_INET, 2, 17, "", ("127.0.0.1", 9))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ways)
    assert own_address("both") == "127.0.0.1"


def test_the_interface_is_the_one_that_has_the_address(monkeypatch):
    def entry(address):
        return type("entry", (), {"address": address})

    there = {"lo": [entry("127.0.0.1")], "ib0": [entry("10.1.0.7"), entry("fe80::1%ib0")], "eth0": [entry("10.0.0.7")]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: there)
    assert [interface_of(address) for address in ("10.0.0.7", "10.1.0.7", "fe80::1", "127.0.1.1", "10.9.9.9")] == [
        "eth0", "ib0", "ib0", "lo", None,
    ]  # fmt: skip
    environ = {"NCCL_SOCKET_IFNAME": "ib0"}
    use_interface_of("10.0.0.7", environ)
    assert environ == {"NCCL_SOCKET_IFNAME": "ib0", "GLOO_SOCKET_IFNAME": "eth0", "VLLM_HOST_IP": "10.0.0.7"}


@pytest.mark.slow
@pytest.mark.parametrize("set_already", [None, "eth7"])
def test_workers_of_any_ray_cluster_meet_at_rays_address(set_already):
    """The plugin is what verl imports in every worker; gloo itself would take the address of the host's name."""
    code = """if True:
        import os
        import ray
        ray.util.get_node_ip_address = lambda: "127.0.0.1"
        import verl_vaopd.platform.plugin
        print(os.environ["GLOO_SOCKET_IFNAME"], os.environ.get("NCCL_SOCKET_IFNAME"))
    """
    env = {"PATH": os.environ["PATH"], "RAY_RAYLET_PID": "7"}
    if set_already:
        env["GLOO_SOCKET_IFNAME"] = set_already
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == (["eth7", "None"] if set_already else ["lo", "lo"])
