"""Lanes of tests that take turns at the machine's memory."""

import os
import subprocess
import sys
from multiprocessing import get_context

import pytest

from tests.memory import enter, locked, strike
from tests.test_repository import ROOT


def other_lane(ledger, size, free, entered, leave):
    enter(ledger, size, free, every=0.05)
    entered.set()
    leave.wait()
    strike(ledger)


def test_a_lane_waits_until_the_others_leave_it_room(tmp_path):
    """Of 17 GiB: 9 and 6 side by side; 9 and 12 one after the other; 40 alone."""
    ledger, context = tmp_path / "ledger", get_context("fork")
    for mine, others, together in ((9, 6, True), (9, 12, False), (40, 1, False)):
        enter(ledger, mine, 17)
        entered, leave = context.Event(), context.Event()
        lane = context.Process(target=other_lane, args=(ledger, others, 17, entered, leave))
        lane.start()
        assert entered.wait(20 if together else 0.5) == together
        strike(ledger)
        assert entered.wait(20)
        leave.set()
        lane.join()
        with locked(ledger) as entries:
            assert entries == {}


def test_a_lane_that_died_holds_nothing(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "ledger").write_text(f"{ended.pid} 16.0\n")
    enter(tmp_path / "ledger", 9, 17)
    assert (tmp_path / "ledger").read_text() == f"{os.getpid()} 9.0\n"


FILE = """
import pytest
from tests.memory import locked
from pathlib import Path
pytestmark = {mark}

@pytest.fixture(scope="module")
def held():
    with locked(Path({ledger!r})) as entries:
        yield sum(entries.values())

def test_first(held):
    assert held == {size}

def test_second():
    assert Path({ledger!r}).read_text().split()[1] == "{size}"
"""


@pytest.mark.parametrize(
    ("mark", "size"),
    [
        ("pytest.mark.stack", 9.0),
        ("pytest.mark.heavy", 4.0),
        ("[pytest.mark.stack, pytest.mark.gigabytes(12.5)]", 12.5),
    ],
)
def test_a_file_holds_its_memory_from_its_first_test_to_its_last(tmp_path, mark, size):
    ledger = str(tmp_path / "ledger")
    (tmp_path / "test_file.py").write_text(FILE.format(mark=mark, size=size, ledger=ledger))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", "-p", "tests.conftest", tmp_path],
        cwd=ROOT,
        env=os.environ | {"VAOPD_TEST_MEMORY": ledger, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    with locked(tmp_path / "ledger") as entries:
        assert entries == {}
