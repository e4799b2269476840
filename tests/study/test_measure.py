"""Students of the whole stack, measured as the study's own."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.study.test_study import records
from verl_vaopd.study.measure import main

pytestmark = pytest.mark.slow


def test_students_are_measured_as_the_studys_own(study, models, tmp_path):
    runs = [tmp_path / name for name in ("untrained", "again", "other")]
    for run, model in zip(runs, ("student", "student", "teacher"), strict=True):
        shutil.copytree(models / model, run / "student")
    students = [run / "student" for run in runs]
    config = json.loads((students[1] / "config.json").read_text())
    config["dtype"] = config["text_config"]["dtype"] = "bfloat16"  # as a run exports it, its weights in float32
    (students[1] / "config.json").write_text(json.dumps(config))
    command = ["verl_vaopd.study.measure", "--models", models, "--words", "0", "--held-out", "6", *students]
    said = subprocess.run([sys.executable, "-m", *map(str, command)], check=True, timeout=1800, stdout=subprocess.PIPE)
    untrained, again, other = (json.loads((run / "visual_nll.json").read_text()) for run in runs)
    before = records(study / "opd" / "seed_1")[0]["nll"]
    assert untrained == again and untrained["gain"] == 0 and (untrained["words"], untrained["held_out"]) == (0, 6)
    assert untrained["nll"] == untrained["untrained"]["nll"] == pytest.approx(before, abs=1e-6)
    assert other["untrained"] == untrained["untrained"] and other["gain"] == untrained["nll"] - other["nll"] != 0
    lines = said.stdout.decode().splitlines()
    assert f"{students[0]}: {before:.4f}, gain +0.0000, accuracy {untrained['accuracy']:.1%}" in lines


def test_a_folder_without_a_model_is_named(models, tmp_path, capsys):
    assert main(["--models", str(models), "--words", "0", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no config.json: name the folder student/ of a run" in capsys.readouterr().err
    assert main(["--models", str(tmp_path), "--words", "0", str(models / "student")]) == 2
    assert f"--models {tmp_path} holds no models of the diluted task" in capsys.readouterr().err
