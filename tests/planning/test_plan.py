"""The plan of a recipe: memory by hand on small shapes, the GPU recipes on 80 GB, refusals that say what to change."""

import json
import math
from dataclasses import replace

import pytest

from tests.costs.test_shapes import TEXT, VISION
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.planning import memory
from verl_vaopd.planning.__main__ import main
from verl_vaopd.planning.checkpoints import checkpoint_bytes, kept_at_most
from verl_vaopd.planning.memory import RESERVE, VLLM_WORK, Settings
from verl_vaopd.planning.recipe import composed, model_shape, settings

STUDENT = ModelShape(TEXT, VISION, tied=True)
TEACHER = ModelShape(replace(TEXT, num_hidden_layers=3), VISION, tied=False)
SMALL = Settings(
    student=STUDENT,
    teacher=TEACHER,
    gpus=2,
    teacher_gpus=2,
    colocated=True,
    prompts=4,
    rollouts=2,
    prompt_limit=10,
    response_limit=5,
    student_tokens=1000,
    teacher_tokens=30,
    views=2,
    sequence_parallel=1,
    checkpointing=True,
    student_offload=False,
    optimizer_offload=False,
    teacher_offload=False,
    tensor_parallel=1,
    vllm_share=0.5,
    chunk_rows=8,
    sync_bucket=64,
)
GPU_RECIPES = ("vaopd_4b_2b_geo3k", "vaopd_8b_2b_geo3k", "vaopd_32b_2b_geo3k", "vaopd_8b_2b_virl39k")


def parts(name: str, plan: Settings = SMALL) -> dict[str, float]:
    (found,) = (phase for phase in memory.phases(plan, 100e9) if phase.name == name)
    return found.parts


def test_what_stays_on_a_gpu_between_phases():
    kept = parts("generation")
    assert kept["student weights"] == 4 * STUDENT.total / 2 and kept["AdamW states"] == 8 * STUDENT.total / 2
    assert kept["teacher weights"] == 2 * TEACHER.total / 2 and kept["teacher head"] == 2 * TEACHER.head_size
    assert kept["vLLM weights"] == 2 * STUDENT.total and kept["reserve (assumed)"] == RESERVE
    assert kept["vLLM keys and values"] == 0.5 * 100e9 - 2 * STUDENT.total - VLLM_WORK


def test_offloaded_shards_are_on_the_gpu_in_their_own_phase_only():
    away = replace(SMALL, teacher_offload=True, optimizer_offload=True, student_offload=True)
    shards = {"teacher weights", "AdamW states", "student weights"}
    assert not shards & set(parts("generation", away))
    assert "teacher weights" in parts("teacher", away) and "AdamW states" not in parts("teacher", away)
    assert {"AdamW states", "student weights"} <= set(parts("student", away))
    assert memory.host_bytes(away, gpus_per_node=2) == 12 * STUDENT.total + 2 * TEACHER.total
    assert memory.host_bytes(SMALL, gpus_per_node=2) == 0


def test_a_teacher_of_its_own_pool_is_not_beside_the_student():
    own = replace(SMALL, colocated=False, teacher_gpus=1)
    assert "teacher weights" not in parts("generation", own)
    assert "AdamW states" not in parts("teacher", own)
    assert parts("teacher", own)["teacher weights"] == 2 * TEACHER.total  # one GPU holds all of it


def test_the_largest_micro_batch():
    # 8 rollouts on 2 ranks: 4 a rank, of 2 prompts: 2 * 10 + 4 * 5 tokens a view, 2 * 10 of them image at most
    assert SMALL.rank_rollouts == 4 and SMALL.rank_prompts(4) == 2
    assert SMALL.batch(1000, 4, views=1) == (40, 20) and SMALL.batch(1000, 4, views=2) == (80, 40)
    assert SMALL.batch(30, 4, views=2) == (30, 30)
    # ranks begin with a whole prompt where its rollouts divide evenly; 3 rollouts of K = 2 come from 2 prompts
    assert SMALL.rank_prompts(3) == 2 and SMALL.rank_prompts(1) == 1
    assert replace(SMALL, gpus=4, sequence_parallel=2).rank_rollouts == 4


def test_activations_of_the_student():
    patches, tokens = 20 * VISION.merge, 40
    inputs = tokens * TEXT.num_hidden_layers * TEXT.hidden_size + patches * VISION.depth * VISION.hidden_size
    assert parts("student")["layer inputs kept by checkpointing"] == 2 * inputs
    layer = max(tokens * TEXT.layer_activations, patches * VISION.block_activations)
    assert parts("student")["one layer's activations, gradients"] == 2 * 2 * layer
    without = parts("student", replace(SMALL, checkpointing=False))
    assert without["activations of all layers"] == 2 * STUDENT.activations(tokens, patches)
    assert parts("student")["hidden states"] == 2 * TEXT.hidden_size * 4 * 5


def test_tensor_parallel_divides_weights_and_cache_of_vllm():
    two = replace(SMALL, tensor_parallel=2)
    assert parts("generation", two)["vLLM weights"] == STUDENT.total
    assert memory.sequence_bytes(two) == TEXT.kv_bytes * 15 / 2


def test_a_share_without_room_for_one_sequence_is_refused():
    with pytest.raises(ValueError, match="gpu_memory_utilization=0.5: must be 0.81 or more"):
        memory.phases(replace(SMALL, vllm_share=0.5), 5e9)


def test_a_checkpoint_has_weights_states_and_the_exported_model():
    assert checkpoint_bytes(STUDENT) == 16 * STUDENT.total


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
        (["vaopd_9b"], "no recipe vaopd_9b; there are vaopd_32b_2b_geo3k"),
        (["vaopd_8b_2b_geo3k", "vaopd.nothing=1"], "vaopd.nothing"),
        (["vaopd_8b_2b_geo3k", "--gpus", "0"], "--gpus 0"),
        (["vaopd_8b_2b_geo3k", "data.train_files=elsewhere.parquet"], "its size not known"),
        (["vaopd_8b_2b_geo3k", "vaopd.teacher.path=nobody/model"], "nobody/model is no folder here"),
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


def test_a_method_that_is_not_planned_is_refused(capsys):
    assert main(["vaopd_8b_2b_geo3k", "vaopd.method=grpo"]) != 0
    assert "vaopd.method=grpo: plans are made for distillation on the student's own answers only" in "".join(
        capsys.readouterr()
    )
