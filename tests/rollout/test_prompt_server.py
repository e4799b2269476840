"""vLLM's server as this package starts it."""

import json
import os
import subprocess
import sys

import pytest

from tests.stack import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    env = {**os.environ, "VERL_PLATFORM": "cpu"}
    command = [sys.executable, "-m", "tests.rollout.answers_of_server"]
    shown = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert shown.returncode == 0, shown.stderr[-3000:]
    return json.loads(shown.stdout.splitlines()[-1])


@pytest.mark.parametrize("reason", ["completed", "aborted"])
def test_an_answer_says_which_prompt_it_is_to(found, reason):
    assert found[reason] == [1, 2]


def test_an_answer_that_vllm_gave_up_is_none(found):
    """The host would take its two tokens for all of it."""
    assert "gave up an answer after 2 tokens" in found["error"]


def test_calls_that_wait_for_the_next_weights_leave_room_for_the_one_that_brings_them(found):
    assert found["calls"] >= 100_000
