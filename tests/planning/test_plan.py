"""The plan of a recipe: the GPU recipes on 80 GB, every method, refusals that say what to change."""

import json
import math

import pytest

from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.launch.plan import main
from verl_vaopd.planning import memory
from verl_vaopd.planning.checkpoints import checkpoint_bytes, kept_at_most
from verl_vaopd.planning.recipe import composed, model_shape, settings

GPU_RECIPES = ("vaopd_4b_2b_geo3k", "vaopd_8b_2b_geo3k", "vaopd_32b_2b_geo3k", "vaopd_8b_2b_virl39k")
OTHER_FAMILIES = {
    "vaopd_30ba3b_2b_geo3k": "31.1 B to 2.1 B parameters, 8 x A100",
    "vaopd_235ba22b_8b_geo3k": "235.7 B to 8.8 B parameters, 16 x A100-80GB SXM on 2 nodes",
    "vaopd_7b_3b_qwen2_5_geo3k": "8.3 B to 3.8 B parameters, 8 x A100",
}


def test_a_checkpoint_has_weights_states_and_the_exported_model():
    student = ModelShape.of(QWEN3_VL_INSTRUCT["2B"])
    assert checkpoint_bytes(student) == 16 * student.total


def test_the_newest_checkpoints_stay_and_the_best():
    assert kept_at_most(26, keep=2) == 3 and kept_at_most(2, keep=2) == 2
    assert kept_at_most(26, keep=None) == 26


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_gpu_recipes_fit_eight_a100(name, capsys):
    plan = settings(composed(name, []))
    assert max(phase.total for phase in memory.phases(plan, 80e9)) < 80e9
    # vLLM's replica holds what a step and a validation ask of it, at full length
    cache = memory.vllm_parts(plan, 80e9)["vLLM keys and values"]
    assert cache / memory.sequence_bytes(plan) > max(64 / 8, 200 / 8)
    assert main([name, "--gpu", "a100-80g", "--gpus", "8"]) == 0
    shown = capsys.readouterr().out
    for phase in ("generation", "teacher", "student", "optimiser", "weights to vLLM"):
        assert f"\n  {phase} " in shown
    steps = 655 if "geo3k" in name else 12145  # 5 * (2101 // 16), 5 * (38870 // 16)
    assert f"{steps:,} steps" in shown and "3 checkpoints of 34 GB" in shown and "It fits." in shown


@pytest.mark.parametrize("name, says", OTHER_FAMILIES.items())
def test_recipes_of_other_families_fit(name, says, capsys):
    assert main([name]) == 0
    shown = capsys.readouterr().out
    assert says in shown and "It fits." in shown and "655 steps" in shown


def test_the_235b_teacher_does_not_fit_beside_vllm(capsys):
    assert main(["vaopd_235ba22b_8b_geo3k", "vaopd.teacher.param_offload=false"]) == 1
    assert "generation needs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides, says",
    [
        (
            ["actor_rollout_ref.rollout.gpu_memory_utilization=0.9"],
            "generation needs 82.6 of 80 GB (vLLM keys and values 63.7, vLLM weights 4.3, vLLM work space (assumed) "
            "4.0): lower actor_rollout_ref.rollout.gpu_memory_utilization (to 0.86)",
        ),
        (
            ["actor_rollout_ref.model.enable_gradient_checkpointing=false"],
            "student needs",
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_a_remedy(overrides, says, capsys):
    assert main(["vaopd_8b_2b_geo3k", *overrides]) == 1
    printed = capsys.readouterr()
    assert f"does not fit: {says}" in printed.err and "\n !" in printed.out


def test_the_remedy_for_generation_is_enough(capsys):
    assert main(["vaopd_8b_2b_geo3k", "actor_rollout_ref.rollout.gpu_memory_utilization=0.86"]) == 0


def test_the_32b_teacher_on_two_gpus_needs_its_offload(capsys):
    arguments = ["vaopd_32b_2b_geo3k", "--gpus", "2"]
    assert main([*arguments, "vaopd.teacher.param_offload=false"]) == 1
    assert "vaopd.teacher.param_offload=true" in capsys.readouterr().err
    assert main(arguments) == 0


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["vaopd_9b"], "no recipe vaopd_9b; there are vaopd_235ba22b_8b_geo3k, "),
        (["vaopd_8b_2b_geo3k", "vaopd.nothing=1"], "vaopd.nothing"),
        (["vaopd_8b_2b_geo3k", "--gpus", "0"], "--gpus 0"),
        (
            ["vaopd_8b_2b_geo3k", "--gpus", "6", "actor_rollout_ref.rollout.tensor_model_parallel_size=3"],
            "tensor_model_parallel_size=3: must divide the student's 16 attention heads",
        ),
        (["vaopd_8b_2b_geo3k", "data.train_files=elsewhere.parquet"], "its size not known"),
        (["vaopd_8b_2b_geo3k", "vaopd.teacher.path=nobody/model"], "nobody/model is no folder here"),
        (
            ["vaopd_8b_2b_geo3k", "actor_rollout_ref.model.path=Qwen/Qwen3-VL-30B-A3B-Instruct"],
            "a student with experts has no plan",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(arguments, says, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_shapes_come_from_the_config_of_a_local_model(tmp_path):
    config = json.loads(json.dumps(QWEN3_VL_INSTRUCT["2B"]))
    config["text_config"]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_shape(str(tmp_path)).text.num_hidden_layers == 3
    assert model_shape("Qwen/Qwen3-VL-4B-Instruct") == ModelShape.of(QWEN3_VL_INSTRUCT["4B"])
    assert model_shape("Qwen/Qwen2.5-VL-3B-Instruct").vision.fullatt_block_indexes == (7, 15, 23, 31)
    with pytest.raises(ValueError, match="config.json cannot be read"):
        model_shape(str(tmp_path / ".."))


def test_two_nodes_are_planned_with_the_slower_link(capsys, monkeypatch):
    def teacher_seconds(*arguments):
        assert main(["vaopd_32b_2b_geo3k", *arguments]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  teacher "))
        return float(line.split()[2])

    monkeypatch.setenv("NNODES", "2")
    fast, slow = teacher_seconds("--network-gbit", "3200"), teacher_seconds("--network-gbit", "10")
    assert slow > fast and math.isfinite(slow)


def step_seconds(shown: str) -> float:
    return float(shown.split("\n  step ")[1].split()[0])


def test_partial_rollouts_are_planned_beside_sync(tmp_path, capsys):
    lengths = tmp_path / "lengths.json"
    lengths.write_text(json.dumps([[200] * 4] * 9 + [[4000] * 4]))  # a tenth of the prompts; mean 580
    settings = ["trainer.v1.colocate_async.num_warmup_batches=2", "trainer.v1.sampler.max_off_policy_threshold=4"]
    asked = ["vaopd_8b_2b_geo3k", "--lengths", str(lengths), *settings]
    assert main(asked) == 0
    sync = capsys.readouterr().out
    assert main([*asked, "--trainer-mode", "colocate_async"]) == 0
    partial = capsys.readouterr().out
    assert "40 measured (lengths.json), mean 580, longest 4,000" in sync and "sync: generation" in sync
    assert "staleness" not in sync and "a step has 8," in sync
    assert "colocate_async, 2 warm-up, wait at 4" in partial and "updates on average" in partial
    assert "a step has 24," in partial  # 3 batches of 64 on 8 replicas
    assert step_seconds(partial) < 0.6 * step_seconds(sync)


def test_lengths_that_cannot_be_are_refused(capsys):
    assert main(["vaopd_8b_2b_geo3k", "--response-p99", "600"]) == 2
    assert "--response-mean 1200 must be between 1 and --response-p99 600" in capsys.readouterr().err
    assert main(["vaopd_8b_2b_geo3k", "--response-p99", "0"]) == 2
    assert "--response-mean 1200 must be between 1 and --response-p99 0" in capsys.readouterr().err


def test_short_answers_and_small_batches_have_a_plan(tmp_path, capsys):
    path = tmp_path / "lengths.json"
    path.write_text("[50, 60]")
    assert main(["vaopd_8b_2b_geo3k", "--lengths", str(path)]) == 0
    assert "mean 55, longest 60" in capsys.readouterr().out
    assert main(["vaopd_8b_2b_geo3k", "--response-mean", "50"]) == 0
    # 8 answers of 400 tokens on average have 3,200 in all, less than one of the longest
    assert main(["vaopd_8b_2b_geo3k", "--response-mean", "400", "data.train_batch_size=2"]) == 0


WARMUP = "trainer.v1.colocate_async.num_warmup_batches"


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["trainer.v1.trainer_mode=separate_async"], "trainer_mode='separate_async': must be one of"),
        (["vaopd.method=grpo"], "trainer.v1.trainer_mode='colocate_async': must be 'sync' with grpo"),
        (["trainer.v1.sampler.max_off_policy_strategy=drop"], "max_off_policy_strategy='drop': must be 'wait'"),
        ([f"{WARMUP}=1e308"], f"{WARMUP}=1e+308: must be a whole number"),
        ([f"{WARMUP}=2000"], f"{WARMUP}=2000: must be below the run's 655 steps"),
        ([f"{WARMUP}=100"], f"{WARMUP}=100 has no plan: at most 20"),
        (["data.train_batch_size=2000"], "24,000 answers on their way have no plan"),  # 3 x 2000 x 4
    ],
)
def test_what_a_run_would_be_refused_or_is_too_much_to_simulate_has_no_plan(overrides, says, capsys):
    assert main(["vaopd_8b_2b_geo3k", "trainer.v1.trainer_mode=colocate_async", *overrides]) == 2
    assert says in capsys.readouterr().err


def test_epochs_of_a_plan_follow_from_its_steps(capsys):
    assert main(["vaopd_8b_2b_geo3k", "trainer.total_epochs=1", "trainer.total_training_steps=1000"]) == 0
    assert "1,000 steps" in capsys.readouterr().out
