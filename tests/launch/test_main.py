"""What a command of ``verl-vaopd train`` means for a run folder that is there already, and for things not yet there."""

import json
import os
import signal
from types import SimpleNamespace
from unittest import mock

import pytest

from verl_vaopd.checks.start import check
from verl_vaopd.data.synthetic_geometry import make_rows, write_rows
from verl_vaopd.launch import main
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.compose import compose, planned_steps
from verl_vaopd.tiny.models import random_models


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


def test_vllms_tensor_parallelism_must_divide_the_students_heads(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    student, _ = random_models(tmp_path / "models")
    devices = ["trainer.n_gpus_per_node=3", "actor_rollout_ref.rollout.tensor_model_parallel_size=3"]
    with pytest.raises(ValueError, match="tensor_model_parallel_size=3: must divide the student's 4 attention heads"):
        check(config(tmp_path, f"actor_rollout_ref.model.path={student}", *devices), dry_run=True)


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


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Of a run whose checks pass; libraries warn in them, and its part on Ray is up to the test."""
    monkeypatch.setenv("VAOPD_SUPERVISED", "1")
    monkeypatch.setattr(main, "check", lambda *_: os.write(2, b"a warning of the checks\n") and [])
    return [
        *("--config-name", "tiny_cpu", "actor_rollout_ref.model.path=a", "vaopd.teacher.path=b", "data.train_files=c"),
        *("data.val_files=d", f"vaopd.output_dir={tmp_path}/run"),
    ]


def test_a_run_shows_its_progress_and_what_libraries_say_is_in_its_folder(arguments, tmp_path, monkeypatch, capfd):
    def on_ray(config):
        os.write(1, b"a dump of settings\n")
        RunLog(config.vaopd.output_dir).say("step 1/80")

    monkeypatch.setattr(main, "run_on_ray", on_ray)
    assert main.main(arguments) == 0
    shown, errors = capfd.readouterr()
    assert errors == ""
    assert [line.split("  ")[-1] for line in shown.splitlines()] == [
        "checking settings, models and data",
        "attention: student sdpa, teacher sdpa",
        f"run folder: {tmp_path}/run",
        f"what libraries and workers say: {tmp_path}/run/worker.log",
        "starting Ray, vLLM, student and teacher",
        "step 1/80",
        "verl-vaopd train: stopped as asked; the same command goes on from the last checkpoint",
    ]
    assert (tmp_path / "run/worker.log").read_text() == "a warning of the checks\na dump of settings\n"


def test_an_error_of_the_driver_is_shown_with_its_traceback(arguments, tmp_path, monkeypatch, capfd):
    from ray.exceptions import RayTaskError

    def on_ray(config):
        os.write(2, b"words of a library\n")
        traceback = "Traceback (most recent call last):\n  File of the task\nRuntimeError: planted"
        raise RayTaskError("run", traceback, RuntimeError("planted")).as_instanceof_cause()

    monkeypatch.setattr(main, "run_on_ray", on_ray)
    assert main.main(arguments) == 1
    errors = capfd.readouterr().err
    assert "  File of the task\n" in errors and "verl-vaopd train: planted" in errors
    assert f"{tmp_path}/run/worker.log" in errors and "words of a library" not in errors
    assert "failed: planted" in (tmp_path / "run/progress.log").read_text()


def test_an_error_that_nobody_expects_is_raised_and_the_streams_are_back(arguments, monkeypatch, capfd):
    monkeypatch.setattr(main, "run_on_ray", lambda _: pytest.fail("unexpected"))
    with pytest.raises(pytest.fail.Exception, match="unexpected"):
        main.main(arguments)
    os.write(2, b"on the terminal\n")
    assert capfd.readouterr().err == "on the terminal\n"


def test_a_check_of_settings_prints_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(config(tmp_path), dry_run=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("options", [{}, {"runtime_env": {"nsight": {"trace": "cuda"}}}])
def test_the_driver_starts_under_nsys_where_the_host_asks_for_it(options, tmp_path, monkeypatch):
    """As verl.trainer.main_ppo.run_ppo does on a GPU with global_profiler.tool=nsys."""

    def host(_, task_runner_class):
        driver = task_runner_class.options(**options) if options else task_runner_class
        driver.remote()

    seen = []
    runner = SimpleNamespace(options=lambda **given: seen.append(given) or mock.Mock())
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("verl.trainer.main_ppo.run_ppo", host)
    monkeypatch.setattr("verl_vaopd.launch.task_runner.VAOPDTaskRunner", runner)
    monkeypatch.setattr("verl_vaopd.launch.watch.Watch", mock.Mock())
    (tmp_path / "run").mkdir()
    main.run_on_ray(config(tmp_path))
    signal.signal(signal.SIGTERM, handler)
    assert seen == [{"name": "vaopd_driver", **options}]


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


@pytest.mark.parametrize(
    "argv, name",
    [
        ([], "vaopd_trainer"),
        (["--config-name", "tiny_cpu"], "tiny_cpu"),
        (["--config-name=tiny_cpu"], "tiny_cpu"),
        (["-cn", "tiny_cpu"], "tiny_cpu"),
        (["-cn=tiny_cpu"], "tiny_cpu"),
    ],
)
def test_the_config_is_named_as_hydra_takes_it(argv, name):
    assert main.parse_arguments(["a=1", *argv, "--dry-run"]) == (name, True, ["a=1"])


@pytest.mark.parametrize("argv", [["--config-name"], ["--config-name="], ["-cn", "--dry-run"], ["--config"]])
def test_a_config_without_a_name_is_refused(argv):
    with pytest.raises(ValueError, match="wants a name|unknown option --config"):
        main.parse_arguments(argv)
