"""What holds for every test of grading."""

import pytest

from verl_vaopd.grading import pool


@pytest.fixture(autouse=True)
def a_machine_may_be_busy(monkeypatch):
    """A test asks what a grader says in half a second of processor time, however long that takes by the clock."""
    monkeypatch.setattr(pool, "_CLOCK_LIMIT", 30.0)
