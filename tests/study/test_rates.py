"""Rates of each arm's own."""

import json
import subprocess
import sys

import pytest

from tests.study.conftest import SMALL
from verl_vaopd.diagnostics.__main__ import main as report
from verl_vaopd.study.__main__ import main
from verl_vaopd.study.arms import Cell, Run
from verl_vaopd.study.rates import at_its_own_rate, mark, trials

OWN = Run(Cell.named("frozen-own-160"), "opd", 1)


def ended(output, run, *nll):
    folder = output / run.name
    folder.mkdir(parents=True)
    (folder / "updates.jsonl").write_text(
        "".join(json.dumps({"update": n, "nll": x}) + "\n" for n, x in enumerate(nll))
    )
    (folder / "summary.json").write_text("{}")
    return folder


def test_the_rate_of_the_largest_gain_on_the_other_figures_is_taken(tmp_path):
    """Of 2 nats 2 - 1.75, 2 - 1.25 and no number are left; a named rate stays."""
    rates = [1e-4, 2e-5, 5e-4]
    for run, last in zip(trials([OWN], rates), (1.25, 1.75, float("nan")), strict=True):
        assert (run.figures, run.seed) == ("test", 101)
        ended(tmp_path, run, 2.0, last)
    run, gains = at_its_own_rate(OWN, rates, tmp_path)
    assert run.name == "validation/frozen-0.0001-160/opd/seed_1"
    assert gains == {2e-5: 0.25, 1e-4: 0.75, 5e-4: -float("inf")}
    named = Run(Cell.named("all-1e-3-0"), "opd", 1)
    assert at_its_own_rate(named, rates, tmp_path) == (named, {}) and trials([named], rates) == []


def test_what_is_tried_is_tried_once_for_all_seeds():
    runs = [Run(OWN.cell, arm, seed) for seed in (1, 2) for arm in ("opd", "oracle")]
    assert len(trials(runs, [1e-4, 2e-5])) == 4


def test_one_rate_alone_is_marked_as_an_arms_own(tmp_path):
    low, high = (Run(Cell.named(name), "opd", 1) for name in ("frozen-2e-5-160", "frozen-1e-4-160"))
    other = Run(Cell.named("frozen-2e-5-160"), "oracle", 1)
    folders = [ended(tmp_path, run, 2.0, 1.0) for run in (low, high, other)]
    for run in (low, other, high):
        mark(run, {2e-5: 0.5, 1e-4: 0.25}, tmp_path)
    assert [(folder / "own_rate.json").exists() for folder in folders] == [False, True, True]
    assert json.loads((folders[1] / "own_rate.json").read_text())["gains"] == [[2e-5, 0.5], [1e-4, 0.25]]


def test_own_rates_are_not_measured_on_the_figures_that_chose_them(models, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--models", str(models), "--output", str(tmp_path), "--cells", "all-own-0", "--figures", "test"])
    assert "--figures test: rate own is chosen on these figures" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--models", str(models), "--output", str(tmp_path), "--cells", "all-own-0", "--rates", "0"])
    assert "--rates: must be a number above 0 of at most six digits, got '0'" in capsys.readouterr().err


def test_a_dry_run_says_where_a_rate_is_still_to_be_chosen(tmp_path, capsys):
    """A cell, an arm and a rate that are named twice, in whatever form, are one."""
    arguments = ["--models", "models", "--output", str(tmp_path), "--seeds", "1", "--arms", "opd", "opd", "--dry-run"]
    arguments += ["--cells", "frozen-own-160", "all-2e-5-0", "all-0.00002-0", "frozen-own-160"]
    assert main([*arguments, "--rates", "2e-5", "1e-4", "0.0001"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/test/frozen-2e-05-160/opd/seed_101  Standard OPD",
        f"{tmp_path}/test/frozen-0.0001-160/opd/seed_101  Standard OPD",
        f"{tmp_path}/validation/frozen-own-160/opd/seed_1  Standard OPD (in place of own: the rate chosen above)",
        f"{tmp_path}/validation/all-2e-05-0/opd/seed_1  Standard OPD",
    ]


@pytest.mark.slow
def test_two_processes_choose_then_run_and_the_report_compares_arms_at_their_own_rates(models, tmp_path):
    output = tmp_path / "study"
    command = [sys.executable, "-m", "verl_vaopd.study", "--models", models, "--output", output, "--seeds", "1", *SMALL]
    command += ["--cells", "all-own-0", "--rates", "1e-3", "1e-9", "--arms", "opd", "oracle", "--parallel", "2"]
    said = subprocess.run([*map(str, command)], check=True, timeout=1800, capture_output=True, text=True).stdout
    assert "run 1 of 6: test/all-0.001-0/opd/seed_101" in said and "0 to go" in said
    assert len([*output.glob("test/*/*/seed_101/summary.json")]) == 4
    runs = sorted(path.parent for path in output.glob("validation/*/*/seed_1/own_rate.json"))
    assert [run.relative_to(output / "validation").parts[1] for run in runs] == ["opd", "oracle"]
    assert report([*map(str, runs), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "dilution_rates.svg").exists()
    rows = [row.split(" | ") for row in (tmp_path / "out" / "table.md").read_text().splitlines()]
    assert any(
        row[0] == "| all trained, own rates, 0" and row[1].startswith("oracle, rate ") and row[4] for row in rows
    )
