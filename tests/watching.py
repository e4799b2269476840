"""What can be seen of a run from outside: its processes, their sockets and command lines, the files they leave."""

import os
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psutil

PLANTED = {name: f"planted-{name.lower()}-83c1d5" for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY")}
"""Secrets of the environment, which nothing may write down."""


@dataclass
class Seen:
    """One process."""

    name: str
    command_line: str
    ray_auth_mode: str | None
    listening: list[str]
    """Addresses of TCP sockets that listen."""
    open_to_others: list[str]
    """Unix sockets in no folder that is the user's alone."""
    segments: set[str]
    """Names of the shared memory that it holds and that has a name still."""


class Run(list):
    """The processes of a run (:class:`Seen`), Ray's session and token, and what Ray answers with and without it."""

    session: Path
    token: str
    token_mode: int
    without_token: str
    with_token: str


def is_loopback(address: str) -> bool:
    return ip_address(address.removeprefix("::ffff:")).is_loopback


def is_private(path: str) -> bool:
    """Whether a folder above ``path`` lets nobody else in."""
    above = [parent.stat() for parent in Path(path).parents if parent.exists()]
    return any(each.st_uid == os.getuid() and not stat.S_IMODE(each.st_mode) & 0o077 for each in above)


def seen(process: psutil.Process) -> Seen:
    unix = {socket.laddr for socket in process.net_connections("unix") if socket.laddr.startswith("/")}
    return Seen(
        name=process.name(),
        command_line="\0".join(process.cmdline()),
        ray_auth_mode=process.environ().get("RAY_AUTH_MODE"),
        listening=[s.laddr.ip for s in process.net_connections("tcp") if s.status == psutil.CONN_LISTEN],
        open_to_others=sorted(path for path in unix if not is_private(path)),
        segments={
            line.rpartition("/dev/shm/")[2]
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            if "/dev/shm/" in line and not line.endswith(" (deleted)")
        },
    )


def grpc_status(address: str, token: str | None) -> str:
    """What Ray's head answers to a question about its nodes."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            ask(b"", metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def processes_seen(pid: int) -> Run:
    """Look at the run that process ``pid`` supervises."""
    run = Run()
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            run.append(seen(process))
        except (psutil.NoSuchProcess, psutil.ZombieProcess, ProcessLookupError, FileNotFoundError):
            continue
    raylet = next(each for each in run if each.name == "raylet").command_line.split("\0")
    told = dict(argument.removeprefix("--").split("=", 1) for argument in raylet if "=" in argument)
    run.session = Path(told["session_dir"])
    path = Path.home() / ".ray" / "auth_token"
    run.token, run.token_mode = path.read_text().strip(), stat.S_IMODE(path.stat().st_mode)
    run.without_token = grpc_status(told["gcs-address"], None)
    run.with_token = grpc_status(told["gcs-address"], run.token)
    return run


def files_that_hold(text: bytes, folders: list[Path]) -> list[Path]:
    """Regular files under the folders (or named themselves) that hold the bytes."""
    files = [path for folder in folders for path in ([folder] if folder.is_file() else sorted(folder.rglob("*")))]
    return [path for path in files if path.is_file() and not path.is_symlink() and text in path.read_bytes()]


def segments() -> set[str]:
    """Shared memory and semaphores: vLLM's, of the weights on their way to it, and what else Python made."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "va", "verl_weights_", "sem."))}
