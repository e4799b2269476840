"""What the study refuses before it begins, by the option's name."""

import json
import shutil
import subprocess

import pytest

from tests.stack import ROOT
from verl_vaopd.study.__main__ import main
from verl_vaopd.study.arms import Cell, Run
from verl_vaopd.study.options import digest
from verl_vaopd.tiny.tasks import TASKS

ONE = ("--cells", "frozen-2e-5-160", "--arms", "opd", "--seeds", "1")


@pytest.mark.parametrize(
    "options, says",
    [
        (["--cells", "bad"], "--cells: cell 'bad': must read REGIME-RATE-WORDS, as frozen-2e-5-160"),
        (["--cells", "frozen-inf-160"], "rate: a number above 0 of at most six digits"),
        (["--seeds", "0"], "--seeds: must be a whole number, 1 or more, got '0'"),
        (["--seeds", "-1"], "--seeds: must be a whole number, 1 or more, got '-1'"),
        (["--seeds", "few"], "--seeds: must be a whole number, 1 or more, got 'few'"),
        (["--first-seed", "-1"], "--first-seed: must be a whole number, 0 or more"),
        (["--parallel", "0"], "--parallel: must be"),
        (["--updates", "-3"], "--updates: must be"),
        (["--prompts", "0"], "--prompts: must be"),
        (["--held-out", "0"], "--held-out: must be"),
    ],
)
def test_an_option_that_means_nothing_is_named(tmp_path, capsys, options, says):
    with pytest.raises(SystemExit) as end:
        main(["--models", "models", "--output", str(tmp_path / "out"), *options])
    assert end.value.code == 2 and says in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["updates", "prompts", "held_out"])
def test_a_run_done_with_other_options_is_named(tmp_path, capsys, name):
    run = Run(Cell.named("frozen-2e-5-160"), "opd", 1)
    folder = tmp_path / run.name
    folder.mkdir(parents=True)
    settings = {**run.record(), "held_out": 200}
    (folder / "summary.json").write_text("{}")
    (folder / "study.json").write_text(json.dumps(settings))
    arguments = ["--models", "models", "--output", str(tmp_path), *ONE, "--dry-run"]
    option = f"--{name.replace('_', '-')}"
    assert main(arguments) == 0
    assert main([*arguments, option, "60"]) == 2
    told = f"{folder} was done with {option} {settings[name]}, not 60: give {option} {settings[name]}, choose another"
    assert told in capsys.readouterr().err
    (folder / "study.json").write_text("{")
    assert main(arguments) == 2 and f"{folder}/study.json is damaged" in capsys.readouterr().err


def test_a_run_done_with_other_models_is_named(tmp_path, capsys):
    run, models = Run(Cell.named("frozen-2e-5-160"), "opd", 1), tmp_path / "models"
    for name in ("student", "teacher"):
        (models / name).mkdir(parents=True)
        (models / name / "model.safetensors").write_text(name)
    folder = tmp_path / "out" / run.name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    arguments = ["--models", str(models), "--output", str(tmp_path / "out"), *ONE, "--dry-run"]
    for told, status in ((digest(models), 0), ("other", 2)):
        (folder / "study.json").write_text(json.dumps({**run.record(), "models": told}))
        assert main(arguments) == status
    assert f"{folder} was done with other models than those of {models}" in capsys.readouterr().err
    (models / "teacher" / "model.safetensors").unlink()  # that is told where models are needed
    assert main(arguments) == 0


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_missing_models_are_named_in_a_line(tmp_path, capsys, parallel):
    models = tmp_path / "models"
    command = ["--models", str(models), "--output", str(tmp_path / "out"), *ONE, "--parallel", parallel]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"--models {models} holds no models of the diluted task" in said
    assert f"verl-vaopd tiny --task dilution --output {models}" in said and not (tmp_path / "out").exists()
    for name in (*TASKS["figures"].files, "manifest.json"):  # another task's
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_text('{"fingerprint": {"trained": true}, "measured": {}}')
    assert main(command) == 2 and "holds no models of the diluted task" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, figures",
    [([], "validation"), (["--figures", "test"], "test"), (["--figures=test", "--seeds", "1"], "test")],
)
def test_the_recipe_reports_the_figures_that_were_measured(tmp_path, options, figures):
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/venv.sh", tmp_path / "scripts")
    (tmp_path / "scripts/setup.sh").write_text("")
    (tmp_path / "venv/bin").mkdir(parents=True)
    for name in ("python", "verl-vaopd"):
        (tmp_path / "venv/bin" / name).write_text('#!/bin/sh\n[ "$1" != report ] || echo "$@"\n')
        (tmp_path / "venv/bin" / name).chmod(0o755)
    for split in ("validation", "test"):
        (tmp_path / "study" / split / "run").mkdir(parents=True)
        (tmp_path / "study" / split / "run/summary.json").write_text("{}")
    env = {"PATH": "/usr/bin:/bin", "VAOPD_VENV": str(tmp_path / "venv"), "STUDY_DIR": str(tmp_path / "study")}
    command = ["bash", tmp_path / "recipes/dilution_study.sh", *options]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert shown.stdout == f"report {tmp_path}/study/{figures}/run --output {tmp_path}/study/report\n"
