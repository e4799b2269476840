"""Shared memory of a run has the run's name, so that what killed processes leave can be removed.

vLLM's processes talk through segments in /dev/shm, 400 MB for each engine. Python's resource tracker removes those of
a process that dies, but Ray kills the tracker with the actor that it belongs to. A process that holds the variable
``VAOPD_SEGMENT_PREFIX`` names its segments by it; whoever set it removes them when all such processes have ended
(``launch/shared_memory.py``).
"""

from multiprocessing import current_process, shared_memory

SEGMENT_PREFIX = "VAOPD_SEGMENT_PREFIX"


def name_segments(prefix: str) -> None:
    """Give segments and semaphores that this process makes, and that have no name of their own, the prefix.

    Raises:
        RuntimeError: this Python keeps the prefix elsewhere.
    """
    if not hasattr(shared_memory, "_SHM_NAME_PREFIX"):
        raise RuntimeError("multiprocessing.shared_memory has no _SHM_NAME_PREFIX: segments cannot be named")
    shared_memory._SHM_NAME_PREFIX = f"/{prefix}"
    current_process()._config["semprefix"] = f"/{prefix}"
