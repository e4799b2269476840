"""Lanes of tests side by side hold no more memory than the machine has: each file of heavy tests says what it takes.

`scripts/test.sh` names a ledger in VAOPD_TEST_MEMORY. Before a file's first test its lane enters the gibibytes that the
file takes, and waits while they are not free; after its last test it strikes them out. Largest heavy ones come first,
while the tiny models are made, the largest with the stack last. Without a ledger nobody waits.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LANES = 5  # GiB: the processes of pytest themselves, and all of the light tests
OF_THE_STACK, OF_A_HEAVY_ONE = 9, 4  # GiB, where a file has no mark `gigabytes`


def gibibytes(item: pytest.Item) -> float:
    """What a test takes at most beside pytest itself, in GiB: its mark, or what its kind takes."""
    mark = item.get_closest_marker("gigabytes")
    if mark is not None:
        return mark.args[0]
    if item.get_closest_marker("stack"):
        return OF_THE_STACK
    return OF_A_HEAVY_ONE if item.get_closest_marker("heavy") else 0


def budget() -> float:
    """What the files of all lanes may take together, in GiB: what Ray allows before it ends workers, less the lanes."""
    from ray._common.utils import get_system_memory

    return 0.95 * get_system_memory() / 2**30 - LANES


@contextmanager
def locked(ledger: Path) -> Iterator[dict[int, float]]:
    """The entries of living processes, process id to GiB; what is changed in them is written."""
    with open(ledger, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        entries = {int(pid): float(size) for pid, size in (line.split() for line in file)}
        entries = {pid: size for pid, size in entries.items() if Path(f"/proc/{pid}").exists()}
        yield entries
        file.truncate(0)
        file.writelines(f"{pid} {size}\n" for pid, size in entries.items())
        file.flush()


def enter(ledger: Path, size: float, free: float, every: float = 2) -> None:
    """Enter `size` GiB for this process as soon as all entries stay within `free`; one alone may take any size."""
    while True:
        with locked(ledger) as entries:
            others = [held for pid, held in entries.items() if pid != os.getpid()]
            if not others or sum(others) + size <= free:
                entries[os.getpid()] = float(size)
                return
        time.sleep(every)


def strike(ledger: Path) -> None:
    """Take this process's entry out."""
    with locked(ledger) as entries:
        entries.pop(os.getpid(), None)


class Memory:
    """The plugin of pytest: one entry for the files of this process, from a file's first test to its last."""

    def __init__(self, ledger: Path):
        self.ledger = ledger
        self.sizes: dict[Path, float] = {}
        self.holds = False

    @pytest.hookimpl(trylast=True)  # what -m leaves out is gone
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.sizes[item.path] = max(gibibytes(item), self.sizes.get(item.path, 0))
        items.sort(key=lambda item: self.sizes[item.path] * (-1 if item.get_closest_marker("heavy") else 1))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None):
        size = self.sizes[item.path]
        if size and not self.holds:
            enter(self.ledger, size, budget())
            self.holds = True
        try:
            return (yield)
        finally:
            if self.holds and (nextitem is None or nextitem.path != item.path):
                strike(self.ledger)
                self.holds = False
