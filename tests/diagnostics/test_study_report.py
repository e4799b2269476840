"""The report of runs of the dilution study: what goes together, and what is refused by name."""

import json
from dataclasses import replace

import pytest

from tests.diagnostics.written_runs import write_run
from verl_vaopd.diagnostics.__main__ import main
from verl_vaopd.diagnostics.dilution import COLOURS, TRAINED, named
from verl_vaopd.study.arms import ARMS, REGIMES, Cell, Run

RUN = Run(Cell.named("frozen-2e-5-160"), "opd", 1, updates=3)


def write_study(folder, run=RUN, **changes):
    """A run of the study as it leaves its folder, its loss going from 2 nats to 1.5."""
    run = replace(run, **changes)
    path = folder / run.name
    path.mkdir(parents=True)
    (path / "study.json").write_text(json.dumps(run.record()))
    sums = {"kl_sum": 40.0, "kl_visual_sum": 4.0, "tokens": 200, "visual_tokens": 8}
    sums |= {"high_tokens": 40, "high_visual": 4, "weighted": 1.0, "weighted_visual": 0.25}
    sums |= {"kl_misread_sum": 3.0, "misread_tokens": 5, "high_misread": 1}
    records = [{"update": 0, "nll": 2.0}, *({"update": n + 1, **sums} for n in range(run.updates))]
    records += [{"update": run.updates, "nll": 1.5}, {"update": run.updates, "accuracy": 0.5}]
    (path / "updates.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (path / "summary.json").write_text("{}")
    return path


def report(*paths, output):
    return main([*map(str, paths), "--output", str(output)])


def test_seeds_of_one_arm_are_a_row(tmp_path):
    runs = [write_study(tmp_path, seed=seed) for seed in (1, 2)]
    assert report(*runs, output=tmp_path / "out") == 0
    row = (tmp_path / "out" / "table.md").read_text().splitlines()[2].split(" | ")
    # Of the weighted KL a quarter, of 8 visual tokens 4 in the high group. Misread ones: 3 of 4 nats, 1 of 5 in the
    # high group, which has 40 of 200 tokens; (40 - 4) / (200 - 8) nats.
    assert row[1:3] == ["Standard OPD", "2"]
    assert row[5:] == ["50.0", "25%", "50%", "75%; 20%", "20.0%", "0.19 to 0.19 |"]


def test_what_an_arm_does_not_log_is_empty_in_its_row(tmp_path):
    """A policy gradient has no KL, and without a teacher no high group."""
    paths = [write_study(tmp_path, arm=arm) for arm in ("opd", "grpo", "grpo_va")]
    absent = ["kl_sum", "kl_visual_sum", "kl_misread_sum", "weighted", "weighted_visual"]
    for path, lacks in zip(paths[1:], ([*absent, "high_tokens", "high_visual", "high_misread"], absent), strict=True):
        records = [json.loads(line) for line in (path / "updates.jsonl").read_text().splitlines()]
        kept = ({name: record[name] for name in record if name not in lacks} for record in records)
        (path / "updates.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    assert report(*paths, output=tmp_path / "out") == 0
    rows = [row.split(" | ")[1:] for row in (tmp_path / "out" / "table.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["Standard OPD", "GRPO", "GRPO, tokens by VA"]
    assert rows[1][4:] == ["50.0", "", "", "", "", " |"] and rows[2][4:] == ["50.0", "", "50%", "-; 20%", "20.0%", " |"]


def test_another_model_on_other_figures_is_not_compared(tmp_path):
    paths = [write_study(tmp_path, arm=arm) for arm in ("opd", "vaopd", "self")]
    assert report(*paths, output=tmp_path / "out") == 0
    rows = [row.split(" | ")[1:] for row in (tmp_path / "out" / "table.md").read_text().splitlines()[2:]]
    assert [row[:4] for row in rows] == [
        ["Standard OPD", "1", "0.500", ""],
        ["Self-distillation, coarse figures", "1", "0.500", ""],
        ["VA-OPD", "1", "0.500", "+0.000"],
    ]


def test_arms_at_rates_of_their_own_are_compared_with_each_other(tmp_path, capsys):
    """Standard OPD at 1e-4, VA-OPD at 2e-5: a row each at its own rate; cells that hold more are told, too."""
    opd = write_study(tmp_path, cell=Cell.named("frozen-1e-4-160"))
    vaopd = write_study(tmp_path, arm="vaopd")
    for path, gains in ((opd, [[2e-5, 0.2], [1e-4, 0.3]]), (vaopd, [[2e-5, 0.4], [1e-4, 0.1]])):
        (path / "own_rate.json").write_text(json.dumps({"gains": gains}))
    oracle = write_study(tmp_path, arm="oracle")
    assert report(opd, vaopd, oracle, output=tmp_path / "out") == 0
    rows = [row.split(" | ")[:5] for row in (tmp_path / "out" / "table.md").read_text().splitlines()[2:]]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("| vision frozen, own rates, 160", "Standard OPD, rate 0.0001", ""),
        ("| vision frozen, own rates, 160", "VA-OPD, rate 2e-05", "+0.000"),
        ("| vision frozen, rate 2e-05, 160", "oracle", ""),
        ("| vision frozen, rate 2e-05, 160", "VA-OPD", ""),
    ]
    assert (tmp_path / "out" / "dilution_rates.png").exists()
    (opd / "own_rate.json").write_text("{")
    assert report(opd, vaopd, output=tmp_path / "other") == 2
    assert f"{opd / 'own_rate.json'} is damaged" in capsys.readouterr().err


def test_every_regime_has_a_name_in_reports():
    assert set(TRAINED) == set(REGIMES)
    assert named(("lora", 2e-4)) == "adapters of rank 8, rate 0.0002"


def test_a_regime_of_another_version_is_named(tmp_path, capsys):
    path = write_study(tmp_path)
    settings = json.loads((path / "study.json").read_text())
    settings["cell"]["regime"] = "half"
    (path / "study.json").write_text(json.dumps(settings))
    assert report(path, output=tmp_path / "out") == 2
    assert f"{path / 'study.json'} says regime 'half'; this version knows frozen, all, lora" in capsys.readouterr().err


def test_every_arm_has_a_colour_of_its_own():
    assert len(set(COLOURS)) == len(COLOURS) >= len(ARMS)


def test_a_run_counts_once(tmp_path, capsys):
    one = write_study(tmp_path)
    copy = write_study(tmp_path / "copy")
    for other in (one, copy):
        assert report(one, other, output=tmp_path / "out") == 2
        told = "are both 'Standard OPD' of vision frozen, rate 2e-05, 160 words, seed 1: name one of them"
        assert f"{one} and {other} {told}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"figures": "test"}, "differ in figures, validation and test"),
        ({"updates": 9}, "differ in updates, 3 and 9"),
        ({"prompts": 8}, "differ in prompts, 4 and 8"),
    ],
)
def test_runs_that_differ_in_more_than_arm_cell_and_seed_are_refused(tmp_path, capsys, changes, says):
    runs = [write_study(tmp_path), write_study(tmp_path / "other", **{"seed": 2, **changes})]
    assert report(*runs, output=tmp_path / "out") == 2
    assert f"{runs[0]} and {runs[1]} {says}: report them apart" in capsys.readouterr().err


def test_runs_of_different_models_are_refused(tmp_path, capsys):
    """Runs of earlier versions, which do not say whose they are, go with any."""
    paths = [write_study(tmp_path, seed=seed) for seed in (1, 2, 3)]
    for path, models in zip(paths[1:], ("a1", "b2"), strict=True):
        settings = json.loads((path / "study.json").read_text()) | {"models": models}
        (path / "study.json").write_text(json.dumps(settings))
    assert report(*paths[:2], output=tmp_path / "out") == 0
    assert report(*paths, output=tmp_path / "out") == 2
    assert f"{paths[1]} and {paths[2]} are of different models: report them apart" in capsys.readouterr().err


def test_a_folder_that_lacks_something_is_named(tmp_path, capsys):
    none = write_study(tmp_path / "none", updates=0)
    torn = write_study(tmp_path / "torn")
    (torn / "updates.jsonl").write_text('{"update": 0, "nll": 2.0}\n')
    missing = write_study(tmp_path / "missing")
    (missing / "updates.jsonl").unlink()
    damaged = write_study(tmp_path / "damaged")
    (damaged / "study.json").write_text("{")
    for path, says in {
        none: "updates.jsonl holds 0 updates of 0",
        torn: "updates.jsonl holds 0 updates of 3",
        missing: "holds no updates.jsonl",
        damaged: "study.json is damaged",
    }.items():
        assert report(path, output=tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert says in said and f"remove {path}, and call recipes/dilution_study.sh again" in said


def test_runs_of_the_study_are_reported_alone(tmp_path, capsys):
    study, other = write_study(tmp_path), write_run(tmp_path / "run")
    for paths in ((study, other), (other, study)):
        assert report(*paths, output=tmp_path / "out") == 2
        told = f"{study} is of the dilution study, {other} is not: give runs of the study alone"
        assert told in capsys.readouterr().err


def changed(path, name, change):
    """A file of a run, of JSON or of its lines, after ``change`` of what it holds."""
    lines = [json.loads(line) for line in (path / name).read_text().splitlines()]
    (path / name).write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def without(*names):
    return lambda lines: [{name: line[name] for name in line if name not in names} for line in lines]


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("study.json", without("title", "seed"), " is damaged (it does not say title, seed)"),
        ("study.json", without("cell"), " is damaged (it does not say cell, regime, rate, words)"),
        (
            "study.json",
            lambda lines: [line | {"cell": {"regime": "all"}} for line in lines],
            "does not say rate, words",
        ),
        ("study.json", lambda lines: [line | {"seed": "one"} for line in lines], " is damaged (it does not say seed)"),
        ("study.json", lambda lines: [lines], " is damaged (it does not say title, "),
        ("updates.jsonl", without("accuracy"), " holds no accuracy"),
        ("updates.jsonl", without("nll"), " does not hold the held-out loss (nll) of update 0 and of update 3"),
        ("updates.jsonl", lambda lines: lines[1:], " does not hold the held-out loss (nll) of update 0 and"),
        ("updates.jsonl", lambda lines: [*lines[:-2], lines[-1]], " does not hold the held-out loss (nll) of update 0"),
        ("updates.jsonl", lambda lines: [*lines, 5], " holds a line 7 that is no object of numbers"),
        ("updates.jsonl", lambda lines: [{"update": 0, "nll": None}, *lines[1:]], " holds a line 1 that is no object"),
        ("updates.jsonl", without("weighted"), " holds weighted of 0 updates, weighted_visual of 3, not both of 3"),
        (
            "updates.jsonl",
            lambda lines: [*lines[:1], *without("visual_tokens")(lines[1:2]), *lines[2:]],
            " holds tokens of 3 updates, visual_tokens of 2, not both of 3",
        ),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, capsys, name, change, says):
    path = write_study(tmp_path)
    changed(path, name, change)
    assert report(path, output=tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"verl-vaopd report: {path / name}") and says in said and said.count("\n") == 1
    assert f"remove {path}, and call recipes/dilution_study.sh again" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("gains", [[], [[1e-4, 0.5]]])
def test_rates_that_were_tried_hold_the_rate_of_the_run(tmp_path, capsys, gains):
    path = write_study(tmp_path)
    (path / "own_rate.json").write_text(json.dumps({"gains": gains}))
    assert report(path, output=tmp_path / "out") == 2
    told = f"{path / 'own_rate.json'} is damaged (it lacks 2e-05, the rate of the run): remove it, and call recipes/"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("last", ["nan", "inf"])
def test_a_run_that_ended_with_no_number_is_left_out_by_name(tmp_path, capsys, last):
    kept, lost = (write_study(tmp_path, seed=seed) for seed in (1, 2))
    changed(lost, "updates.jsonl", lambda lines: [*lines[:-2], {"update": 3, "nll": float(last)}, lines[-1]])
    assert report(kept, lost, output=tmp_path / "out") == 0
    told = f"Left out: {lost} (Standard OPD, seed 2): its held-out loss went from 2 to {last} nats, which is no gain."
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[2].split(" | ")[2:4] == ["1", "0.500"] and told in table
    assert told in capsys.readouterr().out and told in (tmp_path / "out" / "report.html").read_text()
    assert report(lost, output=tmp_path / "none") == 2
    assert f"no run is left. {told}" in capsys.readouterr().err and not (tmp_path / "none").exists()
