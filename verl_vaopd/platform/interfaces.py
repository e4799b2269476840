"""Which address and interface of a machine others reach it by.

gloo takes the address that the host's name resolves to, which is 127.0.1.1 on many images, and NCCL any interface that
is up: on several nodes both are told.
"""

import socket
from collections.abc import MutableMapping


def own_address(peer: str) -> str:
    """This machine's address on the way to ``peer``, a name or an address; IPv4 if ``peer`` has one. Nothing is sent.

    Raises:
        OSError: the name is not known, or there is no way to it.
    """
    found = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return probe.getsockname()[0]


def interface_of(address: str) -> str | None:
    """Name of the interface that has the address, such as eth0; None: no interface of this machine has."""
    import psutil

    if address.startswith("127."):
        return "lo"
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return name
    return None


def use_interface_of(address: str, environ: MutableMapping[str, str]) -> None:
    """Have gloo, NCCL and vLLM use the interface of this machine's ``address``; what is set already stays."""
    name = interface_of(address)
    for variable, value in (
        ("GLOO_SOCKET_IFNAME", name),
        ("NCCL_SOCKET_IFNAME", name),
        ("VLLM_HOST_IP", address),
    ):
        if value is not None:
            environ.setdefault(variable, value)
