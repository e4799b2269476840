"""A NaN or an infinity in what one of two ranks learns from: the real worker, FSDP2 over gloo."""

import math

import pytest
import torch

from tests.random_models import make_checkpoint
from tests.stack import run_ranks
from tests.student.update_path_settings import FAULTY

pytestmark = pytest.mark.heavy  # a process's worth of imports


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    make_checkpoint(folder / "student", hidden=64, layers=2, head_rows=104, tied=True, seed=1)
    make_checkpoint(folder / "teacher", hidden=96, layers=2, head_rows=108, tied=False, seed=2)
    run_ranks("tests.student.fault_rank", (2,), folder)
    return torch.load(folder / "results.pt", weights_only=False)


@pytest.mark.parametrize("place", FAULTY)
def test_the_update_is_skipped(results, place):
    """On the rank without the fault too: weights and moments of AdamW are bit-equal, and the step says so."""
    assert not math.isfinite(results[place]["metrics"]["grad_norm"][0])
    before = results["first"]["state"]
    assert len(before) > 100
    for name, value in results[place]["state"].items():
        assert torch.equal(value, before[name]), name


def test_the_next_good_step_trains(results):
    assert math.isfinite(results["last"]["metrics"]["grad_norm"][0])
    moved = [
        name
        for name, value in results["last"]["state"].items()
        if not torch.equal(value, results["first"]["state"][name])
    ]
    assert len(moved) > 100
