"""The recipes of Table 1 on the whole stack, three steps each; opd, vaopd and what all share are in test_stack.py."""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.stack import ROOT, records, run
from verl_vaopd.answers.store import StoredAnswers

pytestmark = pytest.mark.stack

TINY = Path(os.environ.get("VAOPD_TINY_DIR", Path(os.environ.get("VAOPD_CACHE", ROOT / ".cache")) / "tiny"))
STEPS = 3


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Run a method's recipe on 48 training rows. Returns the run's folder."""
    folder = tmp_path_factory.mktemp("table1")

    def of(method: str, *overrides) -> Path:
        data = folder / "train.parquet"
        if not data.exists():
            made = run("bash", "scripts/setup.sh", "--cpu")
            assert made.returncode == 0
            assert run(Path(".venv/bin/verl-vaopd"), "tiny", "--output", TINY).returncode == 0
            pq.write_table(pq.read_table(TINY / "data/train.parquet").slice(0, 48), data)
        result = run(
            *("bash", f"recipes/table1/{method}.sh", "--tiny", f"data.train_files={data}"),
            *(
                "vaopd.log_rollout_prompts=16",
                f"trainer.total_training_steps={STEPS}",
                "trainer.val_before_train=false",
            ),
            *("trainer.test_freq=-1", "trainer.save_freq=-1", "data.val_max_samples=16", *overrides),
            RUN_DIR=str(folder / method),
            ANSWERS_DIR=str(folder / "answers"),
        )
        assert result.returncode == 0
        steps = [record for record in records(folder / method) if "loss" in record]
        assert [record["step"] for record in steps] == [1, 2, 3]
        assert all(record["grad_norm"] > 0 for record in steps)
        return folder / method

    return of


def rollouts(folder: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts" / f"step_{step}.jsonl").read_text().splitlines()]


def test_grpo(recipe):
    folder = recipe("grpo")
    assert "teacher" not in (folder / "progress.log").read_text()
    for record in records(folder):
        assert record["drift/mean"] < 1e-5 and record["policy/entropy"] > 0
        assert record["policy/clipped"] == 0  # the policy that learns is the one that sampled
    rows = rollouts(folder, 1)
    assert len(rows) == 16 * 4
    tokens = sum(len(row["token_ids"]) for row in rows)
    for prompt in range(16):
        group = [row for row in rows if row["prompt"] == prompt]
        rewards = torch.tensor([row["accuracy"] for row in group])
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        assert [row["advantage"] for row in group] == pytest.approx(expected.tolist(), abs=1e-5)
        for row in group:
            length = len(row["token_ids"])
            assert row["coefficient"] == pytest.approx([row["advantage"] / tokens] * length, abs=1e-7)


def test_papo(recipe):
    folder = recipe("papo")
    assert "teacher" not in (folder / "progress.log").read_text()
    for record in records(folder):
        assert record["drift/mean"] < 1e-5
        assert record["papo/perception_kl"] > 0.01  # a student that reads images badly still looks at them
        assert record["papo/masked_entropy"] != record["policy/entropy"]


def test_offpolicy_kd(recipe):
    folder = recipe("offpolicy_kd")
    answers = StoredAnswers(folder.parent / "answers")
    assert all(record["kl/mean"] > 0 and "drift/mean" not in record for record in records(folder))
    for step in (1, 2, 3):
        rows = rollouts(folder, step)
        assert len(rows) == 16 * 4
        for prompt in range(16):  # the four stored answers, token by token
            group = [row for row in rows if row["prompt"] == prompt]
            stored = [answers.of(group[0]["id"], sample) for sample in range(4)]
            assert sorted(row["token_ids"] for row in group) == sorted(each["token_ids"] for each in stored)
            assert sum(row["accuracy"] for row in group) == sum(each["accuracy"] for each in stored)


def test_cot_sft(recipe):
    folder = recipe("cot_sft")  # on the answers that off-policy distillation had made
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["student_step"], summary["after"]["step"]) == (3, 3, 3)
    assert summary["after"]["mean_va"] > 0 and 0 <= summary["after"]["accuracy"] <= 1
    assert (folder / "student" / "model.safetensors").exists()
