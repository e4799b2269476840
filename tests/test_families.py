"""Other families on the whole stack, three steps each: vLLM samples what teacher and student compute."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from tests.stack import greedy_answers, mixed_rows, records, run
from tests.tiny_families import make_tiny

pytestmark = [pytest.mark.stack, pytest.mark.long]

FAMILIES = ["qwen2_5_vl", "internvl", "llava_onevision"]


def three_steps(folder: Path, student: Path, teacher: Path, *overrides, rows=None, least_va=0.001) -> list[dict]:
    """A run on rows with one image, with two and with none. Returns the records of its steps."""
    rows = rows or mixed_rows(folder / "rows.parquet", 12)
    result = run(
        "bash",
        "recipes/vaopd_tiny_cpu.sh",
        *(f"actor_rollout_ref.model.path={student}", f"vaopd.teacher.path={teacher}"),
        *(f"data.train_files={rows}", f"data.val_files={rows}", "data.val_max_samples=6"),
        *("data.train_batch_size=6", "actor_rollout_ref.actor.ppo_mini_batch_size=6"),
        "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=2",
        *("trainer.total_training_steps=3", "trainer.val_before_train=false", "trainer.test_freq=-1"),
        "trainer.save_freq=3",
        *overrides,
        RUN_DIR=str(folder / "run"),
    )
    assert result.returncode == 0
    steps = [record for record in records(folder / "run") if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3]
    for record in steps:
        assert record["drift/mean"] < 1e-5 and record["grad_norm"] > 0 and record["va/mean"] >= least_va
    return steps


def names(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as f:
        return set(f.keys())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_teaches_itself(tmp_path, family):
    """The student's own weights, loaded by vLLM from disk and then sent to it; the export is named as the hub's are,
    and read by transformers and vLLM, which give one answer to a question with an image."""
    student = make_tiny(tmp_path / "student", family, 128, tied=True, seed=0)
    teacher = make_tiny(tmp_path / "teacher", family, 256, tied=False, seed=1)
    three_steps(tmp_path, student, teacher)
    exported = tmp_path / "run" / "student"
    assert names(exported) == names(student)
    assert json.loads((exported / "config.json").read_text())["model_type"] == family
    (_, plain), (_, served) = greedy_answers(exported, tmp_path / "rows.parquet")
    assert plain == served and len(plain) > 1


def test_a_mixture_of_experts_teaches_a_dense_student(tmp_path):
    """Two families, in the padded layout: a Qwen3-VL-MoE teacher and a dense Qwen3-VL student."""
    from verl_vaopd.tiny.models import random_models

    student, _ = random_models(tmp_path / "dense")
    teacher = make_tiny(tmp_path / "teacher", "qwen3_vl_moe", 128, tied=False, seed=1)
    three_steps(tmp_path, student, teacher, "vaopd.layout=padded")


def test_gemma3_teaches_itself_without_images(tmp_path):
    """All that vLLM's CPU backend serves rightly of it: with images a start is refused (tests/checks)."""
    student = make_tiny(tmp_path / "student", "gemma3", 128, tied=True, seed=0)
    teacher = make_tiny(tmp_path / "teacher", "gemma3", 256, tied=False, seed=1)
    mixed = pq.read_table(mixed_rows(tmp_path / "mixed.parquet", 36)).to_pylist()
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row for row in mixed if not row["images"]]), rows)
    no_images = "actor_rollout_ref.rollout.engine_kwargs.vllm.limit_mm_per_prompt.image=0"
    three_steps(tmp_path, student, teacher, no_images, rows=rows, least_va=0.0)
    assert names(tmp_path / "run" / "student") == names(student)
