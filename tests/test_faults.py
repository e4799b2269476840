"""Numbers going wrong in the whole stack: the faults are in the checkpoints and settings, not in the code."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.stack import mixed_rows, records, run
from tests.test_stack import train_command

pytestmark = [pytest.mark.stack, pytest.mark.long]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A student; teachers: itself, one with a NaN in a weight, one that is blind."""
    from verl_vaopd.tiny.models import random_models

    folder = tmp_path_factory.mktemp("models")
    student, _ = random_models(folder)
    for name in ("nan", "blind"):
        shutil.copytree(student, folder / name)
        weights = load_file(folder / name / "model.safetensors")
        if name == "nan":
            weights["model.language_model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
        for key, value in weights.items():
            if name == "blind" and "merger" in key:
                value.zero_()
        save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})
    return {"student": student, "itself": student, "nan": folder / "nan", "blind": folder / "blind"}


def train(models, tmp_path, teacher: str, *settings):
    data = mixed_rows(tmp_path / "data.parquet", 6)
    few = [
        "data.train_batch_size=6",
        "actor_rollout_ref.rollout.n=2",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.total_training_steps=2",
    ]
    result = run(*train_command(tmp_path / "run", models["student"], models[teacher], data, *few, *settings))
    return result, tmp_path / "run"


def faults(output, name: str) -> list[dict]:
    lines = (output / "faults" / f"step_1_{name}.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
@pytest.mark.parametrize("teacher, name", [("nan", "teacher_scores"), ("blind", "zero_va")])
def test_a_broken_teacher_stops_the_run_before_the_first_update(models, tmp_path, teacher, name, mode):
    ahead = ["trainer.v1.colocate_async.num_warmup_batches=1"] if mode == "colocate_async" else []  # of 2 steps
    result, output = train(models, tmp_path, teacher, f"trainer.v1.trainer_mode={mode}", *ahead)
    assert result.returncode == 3  # stopped by an alarm
    told = next(line for line in (output / "progress.log").read_text().splitlines() if f"ALARM {name}: step 1" in line)
    assert told.split("ALARM ")[1].split(": ", 1)[1] in result.stdout
    assert "in _step_once" in result.stdout  # the task's own traceback
    assert f"{output}/worker.log" in result.stdout
    assert [record["alarms"] for record in records(output)] == [[name]]
    rows = faults(output, name)
    assert len(rows) == 6 * 2
    for row in rows:
        assert row["id"] and row["token_ids"] and row["question"]
        assert ("nan" in row["logp_original"]) == (teacher == "nan")


def test_a_step_of_truncated_rollouts_is_warned_of(models, tmp_path):
    settings = ["data.max_response_length=4", "vaopd.method=opd"]
    result, output = train(models, tmp_path, "itself", *settings)
    assert result.returncode == 0
    assert [record.get("alarms") for record in records(output)] == [["all_truncated"], None]
    assert {len(row["token_ids"]) for row in faults(output, "all_truncated")} == {4}
