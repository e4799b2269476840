"""Removes the shared memory that a run's processes left; ``platform/segments.py`` gives it the run's name."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import psutil

from verl_vaopd.platform.loopback import private_folder

OTHERS = ("verl_weights_", "nccl-")
"""verl's own name for weights on their way to vLLM, and NCCL's for what ranks of a node share: such a segment is a
run's if it is the user's, no older than the run, and nobody holds it."""
_FOLDER = Path("/dev/shm")


@contextlib.contextmanager
def removed_segments() -> Iterator[str]:
    """A prefix for the segments of processes that all end within the block; at its end the segments are removed.

    So are, before it, those of a block whose own process was killed: it held a lock on a file of its prefix's name.
    """
    claims = Path(private_folder()) / "segments"
    claims.mkdir(exist_ok=True)
    for claim in claims.iterdir():
        _remove_if_abandoned(claim)
    prefix = _new_prefix()
    with open(claims / prefix, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            yield prefix
        finally:
            _remove(claims / prefix)


def _new_prefix() -> str:
    while True:
        prefix = f"va{secrets.token_hex(2)}_"  # Python's names have 14 characters with the slash before them
        if not list(_FOLDER.glob(f"{prefix}*")):
            return prefix


def _remove_if_abandoned(claim: Path) -> None:
    try:
        f = open(claim)
    except FileNotFoundError:  # its run has ended meanwhile
        return
    with f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its run is on
            return
        if os.fstat(f.fileno()).st_nlink:  # else another run was faster
            _remove(claim)


def _remove(claim: Path) -> None:
    for pattern in (f"{claim.name}*", f"sem.{claim.name}*"):
        for left in _FOLDER.glob(pattern):
            left.unlink(missing_ok=True)
    since = claim.stat().st_mtime
    for left in (path for name in OTHERS for path in _FOLDER.glob(f"{name}*")):
        with contextlib.suppress(FileNotFoundError):
            status = left.stat()
            if status.st_uid == os.getuid() and status.st_ctime >= since and not _is_mapped(left):
                left.unlink()
    claim.unlink()


def _is_mapped(segment: Path) -> bool:
    """Whether a process of this user holds the segment."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if str(segment) in Path(f"/proc/{process.pid}/maps").read_text():
                return True
    return False
