"""Runs that were stopped, and folders that are no run's: said by name, never averaged in."""

import json

import pytest

from tests.diagnostics.written_runs import write_run
from verl_vaopd.diagnostics.__main__ import main
from verl_vaopd.diagnostics.lengths import without_stopped
from verl_vaopd.diagnostics.runs import group_runs, read_run


def stop(path, step):
    """The run as it was at a step."""
    lines = (path / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    (path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    return path


def reported(tmp_path, capsys, *paths):
    """What is printed, the table's lines and the page."""
    assert main([*map(str, paths), "--output", str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    return capsys.readouterr().out, (out / "table.md").read_text().splitlines(), (out / "report.html").read_text()


def test_a_run_that_was_stopped_is_left_out_by_name(tmp_path, capsys):
    opd, stopped = (write_run(tmp_path / f"opd{seed}", "vaopd.method=opd", seed=seed, views=False) for seed in (1, 2))
    stop(stopped, 30)  # validated at 0 and 20
    told = f"Left out: {stopped} (Standard OPD, seed 2) ended at step 30, seed 1 at 80."
    said, table, page = reported(tmp_path, capsys, opd, stopped)
    accuracy = 100 * read_run(opd).columns["accuracy"][-1]
    assert table[2].startswith(f"| Standard OPD | 1 | {accuracy:.1f} |") and table[4].startswith(told)
    assert told in said and told in page and "1 runs of 1 settings; seeds 1." in page


def test_settings_that_ended_at_different_steps_are_named(tmp_path):
    opd, vaopd = (
        write_run(tmp_path / "opd", "vaopd.method=opd", views=False),
        write_run(tmp_path / "vaopd", views=False),
    )
    base = stop(write_run(tmp_path / "base", "vaopd.method=base", "trainer.val_only=true", views=False), 0)

    def notes():
        return without_stopped(group_runs([read_run(path) for path in (base, opd, vaopd)]))[1]

    assert notes() == []
    stop(vaopd, 60)
    ends = "Standard OPD at 80, VA-OPD at 60"
    assert notes() == [f"Final accuracies are of different steps: the runs ended with {ends}."]


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is no config of a run: it has no section vaopd"),
        ("- a\n- b\n", "is no config of a run: it has no section vaopd"),
        ("vaopd:\n", "is no config of a run: it has no section vaopd"),
        ("vaopd: {a: [\n", "is damaged (while parsing"),
        ("vaopd: {method: opd}\n", "is of an earlier version: it has no vaopd.mask_tokens"),
    ],
)
def test_a_config_that_is_none_is_named(tmp_path, capsys, text, says):
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text(text)
    assert main([str(run), "--output", str(tmp_path / "out")]) == 2
    assert f"{run}/config.yaml {says}" in capsys.readouterr().err


def test_a_run_by_mass_of_an_earlier_version_is_named(tmp_path, capsys):
    run = write_run(tmp_path / "run", "vaopd.method=vaopd_mass")
    lines = (run / "config.yaml").read_text().split("\n")
    at = lines.index("  mass:")
    (run / "config.yaml").write_text("\n".join(lines[:at] + lines[at + 3 :]))
    assert main([str(run), "--output", str(tmp_path / "out")]) == 2
    assert f"{run}/config.yaml is of an earlier version: it has no 'mass'" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "/report"])
def test_an_output_that_is_a_file_is_named(tmp_path, capsys, below):
    (tmp_path / "file").write_text("kept")
    assert main([str(write_run(tmp_path / "run")), "--output", f"{tmp_path}/file{below}"]) == 2
    assert f"--output {tmp_path}/file{below}: {tmp_path}/file is a file" in capsys.readouterr().err
