"""The plan's memory against what the real engines hold, at the published widths (benchmarks/plan_memory.py)."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from benchmarks.hollow_engines import Case
from benchmarks.measure import run_in_fresh_process
from benchmarks.plan_memory import IMAGES, LONGER, OTHERWISE, WIDTHS, predicted
from tests.test_repository import ROOT

pytestmark = [pytest.mark.heavy, pytest.mark.gigabytes(6)]

TOLERANCE = 0.15


def measured(cases: list[Case]) -> dict[Case, dict[str, float]]:
    found = run_in_fresh_process("benchmarks.plan_memory", [asdict(case) for case in cases])
    assert isinstance(found, list), found
    return dict(zip(cases, found, strict=True))


def check(case: Case, found: dict[str, float]) -> None:
    planned = predicted(case)
    assert planned["resident"] == pytest.approx(found["resident"], rel=0.02)
    for name in planned.keys() - {"resident"}:
        beside = found[name] - found["resident"]
        assert planned[name] - planned["resident"] == pytest.approx(beside, rel=TOLERANCE), (case, name)
        assert planned[name] > 0.95 * found[name], (case, name)  # a plan that says too little is worse


def check_what_is_added(fewer: Case, more: Case, found: dict[Case, dict[str, float]]) -> None:
    """From one case to the other: planned within the tolerance, where it is more than rounding of the whole."""
    for name, whole in found[more].items():
        planned, added = predicted(more)[name] - predicted(fewer)[name], whole - found[fewer][name]
        assert planned == pytest.approx(added, rel=TOLERANCE, abs=0.002 * whole), (fewer, more, name)


@pytest.fixture(scope="module")
def of_widths() -> dict[Case, dict[str, float]]:
    return measured(WIDTHS)


@pytest.mark.parametrize("case", WIDTHS, ids=str)
def test_what_is_held_is_what_was_planned(case, of_widths):
    check(case, of_widths[case])


@pytest.mark.parametrize("fewer, more", zip(WIDTHS[::2], WIDTHS[1::2], strict=True), ids=str)
def test_two_layers_more(fewer, more, of_widths):
    assert (fewer.layers, more.layers) == (2, 4)
    check_what_is_added(fewer, more, of_widths)


@pytest.mark.long
def test_more_tokens_images_and_other_methods(of_widths):
    found = of_widths | measured([*LONGER, *IMAGES, *OTHERWISE])
    for case in [*LONGER, *IMAGES, *OTHERWISE]:
        check(case, found[case])
    for longer in LONGER:
        shorter = next(case for case in WIDTHS if asdict(case) | {"response": 8000} == asdict(longer))
        check_what_is_added(shorter, longer, found)


def test_hollow_engines_hold_what_engines_that_compute_hold():
    shown = subprocess.run(
        [sys.executable, "-m", "tests.planning.hollow_rank"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert shown.returncode == 0, shown.stderr
    for role, (computed, hollow) in json.loads(shown.stdout.splitlines()[-1]).items():
        assert hollow == pytest.approx(computed, rel=0.01), role
