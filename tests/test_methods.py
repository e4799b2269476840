"""The recipes of Table 1 on the whole stack, three steps each; grpo and papo are in test_cluster.py."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoTokenizer

from tests.own_data.page import converted, training_arguments
from tests.stack import ROOT, TINY, assert_answers_alike, records, run, tiny_folder
from verl_vaopd.answers.store import StoredAnswers

pytestmark = pytest.mark.stack

SETTINGS = (
    "vaopd.log_rollout_prompts=16",
    "trainer.total_training_steps=3",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "data.val_max_samples=16",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of runs and of the teacher's answers."""
    tiny_folder()
    return tmp_path_factory.mktemp("table1")


def three_steps(folder: Path, method: str, *overrides) -> list[dict]:
    """Run a method's recipe. Returns the records of its steps."""
    result = run(
        *("bash", f"recipes/table1/{method}.sh", "--tiny", *SETTINGS, *overrides),
        RUN_DIR=str(folder / method),
        ANSWERS_DIR=str(folder / "answers"),
    )
    assert result.returncode == 0
    steps = [record for record in records(folder / method) if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3]
    return steps


def rollouts(folder: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts" / f"step_{step}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def answered(folder):
    """Settings of runs on answers of the teacher, which is the student: a KL of 0, if all arrives where it belongs."""
    pq.write_table(pq.read_table(TINY / "data" / "train.parquet").slice(0, 96), folder / "train.parquet")
    return [f"vaopd.teacher.path={TINY / 'student'}", f"data.train_files={folder / 'train.parquet'}"]


def distil_from_answers(folder: Path, answered: list[str], *overrides) -> None:
    steps = three_steps(folder, "offpolicy_kd", *answered, "actor_rollout_ref.actor.optim.lr=1e-9", *overrides)
    assert all(abs(record["loss"]) < 1e-6 and abs(record["kl/mean"]) < 1e-6 for record in steps)
    assert all(record["va/mean"] > 0.01 and "drift/mean" not in record for record in steps)
    answers = StoredAnswers(folder / "answers")
    for step in (1, 2, 3):
        rows = rollouts(folder / "offpolicy_kd", step)
        assert len(rows) == 16 * 4
        for prompt in range(16):  # the four stored answers, token by token
            group = [row for row in rows if row["prompt"] == prompt]
            stored = [answers.of(group[0]["id"], sample) for sample in range(4)]
            assert sorted(row["token_ids"] for row in group) == sorted(each["token_ids"] for each in stored)
            assert sum(row["accuracy"] for row in group) == sum(each["accuracy"] for each in stored)


def test_offpolicy_kd(folder, answered):
    distil_from_answers(folder, answered)


@pytest.mark.long  # tests/sft has the training without the recipe
def test_cot_sft(folder, answered):
    """On the answers that off-policy distillation had made."""
    steps = three_steps(folder, "cot_sft", *answered)
    assert all(record["grad_norm"] > 0 for record in steps)
    summary = json.loads((folder / "cot_sft" / "summary.json").read_text())
    assert (summary["steps"], summary["student_step"], summary["after"]["step"]) == (3, 3, 3)
    assert summary["after"]["mean_va"] > 0 and 0 <= summary["after"]["accuracy"] <= 1
    assert (folder / "cot_sft" / "student" / "model.safetensors").exists()


def exported(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of a student's folder, as transformers loads them."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).state_dict()


@pytest.fixture(scope="module")
def outside(folder):
    """A method, data and a reward from outside the package, the latter two as docs/own_data.md has them."""
    (folder / "own").mkdir()
    own = training_arguments(converted(folder / "own"))
    return run(
        *("bash", "recipes/vaopd_tiny_cpu.sh", *SETTINGS, *own, "trainer.save_freq=3"),
        *("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.target_modules=all-linear"),
        *("vaopd.method=pkg://entropy_weighted:EntropyWeighted", "+vaopd.method_settings.floor=0.2"),
        RUN_DIR=str(folder / "outside"),
        PYTHONPATH=str(ROOT / "tests" / "methods" / "outside"),
    )


def test_data_and_a_reward_of_ones_own(folder, outside):
    """From a folder of pictures to ``student/``; the accuracy of every rollout is what the page's function says."""
    assert outside.returncode == 0
    assert (folder / "outside" / "student" / "model.safetensors").exists()
    score: dict = {}
    exec((folder / "own" / "reward.py").read_text(), score)
    rows = [row for step in (1, 2, 3) for row in rollouts(folder / "outside", step)]
    assert {row["id"].split("/")[0] for row in rows} == {"rows"}
    truths = {
        row["extra_info"]["id"]: row["reward_model"]["ground_truth"]
        for row in pq.read_table(folder / "own/data/own/train.parquet").to_pylist()
    }
    tokenizer = AutoTokenizer.from_pretrained(TINY / "student")
    for row in rows:
        answer = tokenizer.decode(row["token_ids"], skip_special_tokens=True)
        assert row["accuracy"] == score["score"]("rows", answer, truths[row["id"]], within=1)["acc"]
    assert any(row["accuracy"] for row in rows)


def test_a_method_from_outside_the_package(folder, outside):
    """Its own score comes from the teacher's workers, its weights from the driver, its line to the person.

    The student trains adapters, on the vision tower too, which reach vLLM merged and are exported beside the student.
    """
    assert outside.returncode == 0
    steps = [record for record in records(folder / "outside") if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert all(record["entropy/teacher"] > 0 and record["va/mean"] > 0 for record in steps)
    assert all(f"teacher's entropy {record['entropy/teacher']:.3f}" in outside.stdout for record in steps)
    for rollout in rollouts(folder / "outside", 1):
        assert sum(rollout["coefficient"]) == pytest.approx(1 / (16 * 4), rel=1e-4)
        assert len({round(weight, 9) for weight in rollout["coefficient"]}) > 1  # no two tokens alike, as in Eq. 1
    assert "trained: adapters of vision, merger, language (" in outside.stdout
    assert all(record["drift/mean"] < 1e-5 for record in steps) and steps[-1]["grad_norm"] > 0
    student = folder / "outside" / "student"
    base, merged = AutoModelForImageTextToText.from_pretrained(TINY / "student", dtype=torch.float32), exported(student)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    moved = {name for name, weight in merged.items() if not torch.equal(weight, before[name])}
    assert any("visual.merger" in name for name in moved) and any("q_proj" in name for name in moved)
    adapted = PeftModel.from_pretrained(base, student / "adapter").merge_and_unload().state_dict()
    for name, wanted in adapted.items():
        torch.testing.assert_close(merged[name], wanted, rtol=0, atol=1e-6)


@pytest.mark.long
def test_gkd_with_groups_of_visual_advantage_and_a_reward(folder):
    """Divergence, weights of VA-OPD and GRPO's term in one backward, through the whole stack; the tower frozen."""
    result = run(
        *(
            "bash",
            "recipes/gkd.sh",
            "--tiny",
            *SETTINGS,
            "vaopd.gkd.token_weights=visual_advantage",
            "vaopd.reward_weight=0.1",
            "vaopd.freeze=[vision,merger]",
            "trainer.save_freq=3",
        ),
        RUN_DIR=str(folder / "gkd"),
    )
    assert result.returncode == 0
    steps = [record for record in records(folder / "gkd") if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3]
    for record in steps:
        assert 0 < record["kl/mean"] < 0.6932  # at beta 1/2 the divergence is at most log 2
        assert record["weights/rollout_spread"] > 0 and record["policy/entropy"] > 0 and record["drift/mean"] < 1e-5
    assert "trained: language, head (" in result.stdout
    before, after = exported(TINY / "student"), exported(folder / "gkd" / "student")
    same = {name for name, weight in after.items() if torch.equal(weight, before[name])}
    assert same == {name for name in before if ".visual." in name}


@pytest.mark.long
def test_adapters_sent_as_they_are(tmp_path):
    """Three steps in which vLLM is sent the adapters; the exported student answers alike in transformers and vLLM."""
    result = run(
        *("bash", "recipes/vaopd_tiny_cpu.sh", *SETTINGS, "trainer.save_freq=3"),
        *("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora.merge=false"),
        RUN_DIR=str(tmp_path / "run"),
    )
    assert result.returncode == 0
    steps = [record for record in records(tmp_path / "run") if "loss" in record]
    assert len(steps) == 3 and all(record["drift/mean"] < 1e-5 for record in steps)
    assert_answers_alike(tmp_path / "run" / "student", TINY / "data" / "test.parquet")


@pytest.mark.long
def test_sequences_spread_over_two_ranks(tmp_path, folder, answered):
    """Two FSDP ranks, colocated teacher, Ulysses: each sequence is spread over both."""
    distil_from_answers(
        *(tmp_path, answered),
        "trainer.n_gpus_per_node=2",
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2",
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
    )


@pytest.mark.long
def test_a_student_that_is_shown_coarse_images_learns_from_its_frozen_self(folder):
    """It is its teacher's model: if its own forward were shown the original, the first step's KL would be 0; if vLLM
    alone were, the drift would not be that of rounding."""
    recipe = ("bash", "recipes/self_distillation.sh", "--tiny", *SETTINGS)
    result = run(*recipe, "vaopd.max_drift=1e-5", RUN_DIR=str(folder / "self"))
    assert result.returncode == 0
    steps = [record for record in records(folder / "self") if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert all(record["kl/mean"] > 0.01 and record["drift/mean"] < 1e-5 for record in steps)
    assert all(record["va/mean"] > 0 and record["grad_norm"] > 0 for record in steps)
