"""What only GPUs do, on two CPU ranks: bf16, engines asleep while teacher and student run, two answers a validation.

vLLM has no sleep on CPUs, so a stand-in discards what a GPU's pool would (pretend/sleep/): NaN comes out of an engine
that answers asleep, or with what it was given before it woke.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.stack import ROOT, mixed_rows, records, run
from tests.test_stack import train_command

pytestmark = [pytest.mark.stack, pytest.mark.gigabytes(12.5)]

STEPS, ENGINES = 4, 2
BF16_SLEEPING = (  # of vaopd_trainer.yaml, which tiny_cpu sets otherwise
    "actor_rollout_ref.rollout.free_cache_engine=true",
    "actor_rollout_ref.rollout.dtype=bfloat16",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype: bf16, reduce_dtype: fp32, buffer_dtype: fp32}",
    "actor_rollout_ref.model.enable_gradient_checkpointing=true",
    "vaopd.teacher.dtype=bf16",
    "vaopd.teacher.param_offload=true",
    "vaopd.max_drift=0.1",
)


@pytest.fixture(scope="module", params=["sync", pytest.param("colocate_async", marks=pytest.mark.long)])
def slept(request, tmp_path_factory):
    """Four steps with two validations between."""
    from verl_vaopd.tiny.models import random_models

    folder = tmp_path_factory.mktemp("sleep")
    student, teacher = random_models(folder / "models")
    plugin = folder / "plugin" / "pretend_sleep-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend_sleep\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[vllm.general_plugins]\npretend_sleep = pretend_sleep:register\n")
    env = {
        "SLEEP_LOG": str(folder / "log"),
        "PYTHONPATH": f"{plugin.parent}:{ROOT / 'tests' / 'pretend' / 'sleep'}",
    }
    data = mixed_rows(folder / "data.parquet", 6)
    command = train_command(
        folder / "run",
        student,
        teacher,
        data,
        *BF16_SLEEPING,
        "vaopd.method=pkg://noted_vaopd:NotedVAOPD",
        f"trainer.v1.trainer_mode={request.param}",
        f"trainer.n_gpus_per_node={ENGINES}",
        f"vaopd.teacher.n_gpus_per_node={ENGINES}",
        "data.train_batch_size=6",
        "actor_rollout_ref.rollout.val_kwargs={n: 2, temperature: 1, do_sample: true}",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        "trainer.save_freq=2",
        "trainer.test_freq=2",
    )
    first = run(*command, f"trainer.total_training_steps={STEPS}", **env)
    log = (folder / "log").read_text()
    return {"mode": request.param, "folder": folder / "run", "first": first, "log": log, "again": (command, env)}


def test_all_numbers_are_those_of_awake_engines(slept):
    assert slept["first"].returncode == 0
    steps = [record for record in records(slept["folder"]) if "loss" in record]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    for step in steps:
        assert step["grad_norm"] > 0
    drifts = [step["drift/mean"] for step in steps if "drift/mean" in step]
    # bf16: not zero, far below the alarm. With partial rollouts a step may have no token of the current weights.
    assert drifts and all(0 < drift < 0.05 for drift in drifts) and (len(drifts) == STEPS or slept["mode"] != "sync")
    validated = [record["step"] for record in records(slept["folder"]) if "val/accuracy" in record]
    assert validated == [0, 2, 4]
    answers = (slept["folder"] / "rollouts" / "validation_4.jsonl").read_text().splitlines()
    assert len(answers) == 6 * 2


def test_engines_sleep_while_teacher_and_student_run(slept):
    """In order of time: both engines sleep, the teacher scores, the driver weighs, the student learns, both wake."""
    events = [line.split() for line in sorted(slept["log"].splitlines())]
    names = [" ".join(event[2:]) for event in events]
    asleep: dict[str, set[str]] = {}
    for (_, pid, *_), name in zip(events, names, strict=True):
        match name:
            case "sleep":
                asleep[pid] = {"weights", "kv_cache"}
            case "wake weights" | "wake kv_cache":
                asleep[pid] = asleep.get(pid, set()) - {name.removeprefix("wake ")}
            case _:
                assert len(asleep) == ENGINES and all(tags == {"weights", "kv_cache"} for tags in asleep.values()), name
    weighed = [place for place, name in enumerate(names) if name == "weigh"]
    assert len(weighed) == STEPS
    for before, place, after in zip([0, *weighed], weighed, [*weighed[1:], len(names)], strict=False):
        assert "score" in names[before:place] and "update" in names[place:after]


def test_checkpoint_and_export_are_whole(slept):
    folder = slept["folder"]
    exported = load_file(folder / "student" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {
        torch.float32
    }  # what AdamW keeps; read as its config says
    assert json.loads((folder / "student" / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(tensor.isfinite().all() for tensor in exported.values())


@pytest.mark.long
def test_drift_above_the_limit_stops_the_run_in_bf16_too(slept):
    """It goes on from the checkpoint, under a limit no drift can keep."""
    command, env = slept["again"]
    second = run(*command, f"trainer.total_training_steps={STEPS + 2}", "vaopd.max_drift=1e-9", **env)
    assert f"training from step {STEPS + 1}" in second.stdout
    assert second.returncode == 3
    assert "vaopd.max_drift" in second.stdout
