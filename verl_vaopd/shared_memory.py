"""Shared memory of a run has the run's name, so that what killed processes leave can be removed.

vLLM's processes talk through segments in /dev/shm, 400 MB for each engine. Python's resource tracker removes those of
a process that dies, but Ray kills the tracker with the actor that it belongs to. A process that holds the variable
``VAOPD_SEGMENT_PREFIX`` names its segments by it; whoever set it removes them when all such processes have ended.
"""

import os
import secrets
from multiprocessing import shared_memory
from pathlib import Path

SEGMENT_PREFIX = "VAOPD_SEGMENT_PREFIX"
_FOLDER = Path("/dev/shm")


def new_prefix() -> str:
    """A prefix that no segment of this machine has."""
    while True:
        prefix = f"va{secrets.token_hex(2)}_"  # Python's names have 14 characters with the slash before them
        if not list(_FOLDER.glob(f"{prefix}*")):
            return prefix


def name_segments(prefix: str) -> None:
    """Give segments that this process makes, and that have no name of their own, the prefix.

    Raises:
        RuntimeError: this Python keeps the prefix elsewhere.
    """
    if not hasattr(shared_memory, "_SHM_NAME_PREFIX"):
        raise RuntimeError("multiprocessing.shared_memory has no _SHM_NAME_PREFIX: segments cannot be named")
    shared_memory._SHM_NAME_PREFIX = f"/{prefix}"


def remove_segments(prefix: str) -> list[str]:
    """Remove the segments of processes that have ended. Returns their names."""
    names = sorted(path.name for path in _FOLDER.glob(f"{prefix}*"))
    for name in names:
        os.unlink(_FOLDER / name)
    return names
