"""What holds for every test."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.memory import Memory


def pytest_configure(config):
    if ledger := os.environ.get("VAOPD_TEST_MEMORY"):
        config.pluginmanager.register(Memory(Path(ledger)))


@pytest.fixture(autouse=True)
def environment():
    """What a test, or a command that it calls in this process, sets in the environment ends with the test."""
    before = dict(os.environ)
    yield
    tempfile.tempdir = None  # where Python remembers what TMPDIR was
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)
