"""What holds for every test."""

import os
import tempfile

import pytest


@pytest.fixture(autouse=True)
def environment():
    """What a test, or a command that it calls in this process, sets in the environment ends with the test."""
    before = dict(os.environ)
    yield
    tempfile.tempdir = None  # where Python remembers what TMPDIR was
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)
