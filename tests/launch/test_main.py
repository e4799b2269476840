"""What a command of ``verl-vaopd train`` means for a run folder that is there already, and for things not yet there."""

import json

import pytest

from verl_vaopd.checks.start import check
from verl_vaopd.data.synthetic_geometry import make_rows, write_rows
from verl_vaopd.launch import main
from verl_vaopd.settings.compose import compose, planned_steps


def config(tmp_path, *overrides):
    return compose(
        "tiny_cpu",
        [
            "actor_rollout_ref.model.path=nobody/student",
            "vaopd.teacher.path=nobody/teacher",
            f"data.train_files={tmp_path}/train.parquet",
            f"data.val_files={tmp_path}/validation.parquet",
            f"vaopd.output_dir={tmp_path}/run",
            *overrides,
        ],
    )


def test_planned_steps(tmp_path):
    write_rows(make_rows("train", 10), tmp_path / "train.parquet")
    assert planned_steps(config(tmp_path)) == 80
    epochs = ["trainer.total_training_steps=null", "trainer.total_epochs=5", "data.train_batch_size=4"]
    # 10 rows are 2 whole batches of 4, the rest of an epoch is left out
    assert planned_steps(config(tmp_path, *epochs)) == 10
    assert planned_steps(config(tmp_path, *epochs, "data.train_max_samples=9")) == 10
    assert planned_steps(config(tmp_path, *epochs, "data.train_max_samples=7")) == 5


def test_a_dry_run_names_what_is_not_here_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = check(config(tmp_path), dry_run=True)
    assert [line.split(":")[0] for line in missing] == [
        "actor_rollout_ref.model.path",
        "vaopd.teacher.path",
        "data.train_files",
        "data.val_files",
    ]
    with pytest.raises(ValueError, match="nobody/student"):
        check(config(tmp_path))


def test_a_finished_run_is_shown_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAOPD_SUPERVISED", "1")
    monkeypatch.setattr(main, "check", lambda *_: [])
    monkeypatch.setattr(main, "run", lambda _: pytest.fail("started again"))
    (tmp_path / "run").mkdir()
    summary = {"steps": 80, "student": None, "student_step": None, "figure": None, "metrics": "metrics.jsonl"}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    arguments = [
        *("--config-name", "tiny_cpu", "actor_rollout_ref.model.path=a", "vaopd.teacher.path=b", "data.train_files=c"),
        *("data.val_files=d", f"vaopd.output_dir={tmp_path}/run"),
    ]
    assert main.main(arguments) == 0
    assert "is finished" in capsys.readouterr().out
    monkeypatch.setattr(main, "run", lambda _: None)  # more steps: it goes on, and is asked to stop
    assert main.main([*arguments, "trainer.total_training_steps=81"]) == 0
    assert "stopped as asked" in capsys.readouterr().out


def test_ray_is_the_named_cluster_or_one_of_the_runs_own():
    settings = {"num_cpus": 16, "num_gpus": 8, "log_to_driver": False}
    assert main.ray_init_settings(settings, {}) == {**settings, "address": "local"}
    assert main.ray_init_settings(settings, {"RAY_ADDRESS": "10.0.0.1:6379"}) == {"log_to_driver": False}


@pytest.mark.parametrize("argv, restarts", [([], 0), (["--restarts", "3"], 3), (["--restarts=12"], 12)])
def test_restarts_are_taken_from_any_place(argv, restarts):
    assert main.take_restarts(["a=1", *argv, "--dry-run"]) == (restarts, ["a=1", "--dry-run"])


@pytest.mark.parametrize("value", ["-1", "two", "", "²"])
def test_a_wrong_number_of_restarts_is_refused(value, capsys):
    assert main.main(["--restarts", value]) == 2
    assert "--restarts" in capsys.readouterr().err
