"""What keeps a run on one machine to itself: loopback for every socket, a folder of the user's own for every file.

torch's TCPStore, where ranks meet, listens at every address of a machine whatever host it is given, and obeys whoever
connects. ``bound://HOST:PORT`` is torch's ``tcp://``, and ``bound://`` its ``env://``, with a store that listens at the
host alone that the ranks are told.
"""

import os
import socket
import stat
import tempfile
from functools import cache
from urllib.parse import parse_qs, urlparse

LOOPBACK = {
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",  # else the address that the host's name resolves to
    "NCCL_SOCKET_IFNAME": "lo",
}
"""Environment of processes that all run on this machine."""

LONGEST_SOCKET_PATH = 107
"""Bytes of the path of a Unix socket (sun_path of unix(7), less its end)."""
RAYS_PART = len("/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store.9")
"""The most that Ray adds to its folder; vLLM's and verl's sockets there have shorter names."""
PYTHONS_PART = len("/pymp-12345678/listener-12345678")
"""What multiprocessing adds to TMPDIR."""


def holds_sockets(folder: str, added: int = RAYS_PART) -> bool:
    """Whether the path of a socket there, ``added`` bytes longer, is one that the system takes."""
    return len(os.fsencode(folder)) + added <= LONGEST_SOCKET_PATH


def private_folder() -> str:
    """The user's folder for sockets and temporary files, made if it is not there.

    ``verl_vaopd-UID`` in the system's folder of temporary files (TMPDIR), or in /tmp where that one's path is too long.

    Raises:
        ValueError: the name is taken by a link, a file, or somebody else's folder.
    """
    name = f"verl_vaopd-{os.getuid()}"
    path = os.path.join(tempfile.gettempdir(), name)
    path = path if holds_sockets(path) else os.path.join("/tmp", name)
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ValueError(f"{path} is not a folder of this user's: have it removed, or set TMPDIR to another folder")
    os.chmod(path, 0o700)
    return path


def private_socket(address: str) -> str:
    """verl's ``ipc:///tmp/NAME`` in the user's folder, with a name of this Ray node's own.

    verl's name holds the id of the Ray job, which is 01000000 in every run's own cluster: two runs would share it.
    """
    name = address.removeprefix("ipc:///tmp/")
    return f"ipc://{private_folder()}/{os.environ['RAY_RAYLET_PID']}-{name}"


def _bound_rendezvous(url: str, timeout, **_):
    from torch.distributed import TCPStore

    parsed = urlparse(url)
    query = {name: int(values[-1]) for name, values in parse_qs(parsed.query).items()}
    rank = query.get("rank", int(os.environ.get("RANK", 0)))
    world_size = query.get("world_size", int(os.environ.get("WORLD_SIZE", 1)))
    host, port = parsed.hostname or os.environ["MASTER_ADDR"], parsed.port or int(os.environ["MASTER_PORT"])
    server = {}
    if rank == 0:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=max(128, world_size))
        server = {"is_master": True, "master_listen_fd": listening.detach()}
    yield TCPStore(host, port, world_size, timeout=timeout, **server), rank, world_size
    raise RuntimeError("bound:// cannot meet a second time")


@cache
def register_bound_rendezvous() -> None:
    """Make ``bound://`` known to torch in this process."""
    from torch.distributed import register_rendezvous_handler

    register_rendezvous_handler("bound", _bound_rendezvous)


def bind_vllm() -> None:
    """Have vLLM's executors of one machine, which tell their workers ``tcp://HOST:PORT``, tell them ``bound://``."""
    from vllm.utils.network_utils import get_distributed_init_method
    from vllm.v1.executor import multiproc_executor, uniproc_executor

    def bound(host: str, port: int) -> str:
        return get_distributed_init_method(host, port).replace("tcp://", "bound://")

    register_bound_rendezvous()
    multiproc_executor.get_distributed_init_method = uniproc_executor.get_distributed_init_method = bound
