"""Supervised fine-tuning as verl's trainer runs it, on a tiny student and stored answers; no Ray, no vLLM."""

import json
import os

import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from tests.answers.written import write_answers
from tests.stack import mixed_rows, records
from verl_vaopd.data.dataset import images_of
from verl_vaopd.launch.main import fine_tune
from verl_vaopd.settings.compose import compose
from verl_vaopd.tiny.models import random_models

ROWS, STEPS = 8, 3

pytestmark = pytest.mark.heavy  # three processes' worth of imports


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sft")
    student, teacher = random_models(folder / "models")
    data = mixed_rows(folder / "data.parquet", ROWS)
    processor = AutoProcessor.from_pretrained(student)
    written = write_answers(folder / "answers", data, processor.tokenizer)
    overrides = [
        f"actor_rollout_ref.model.path={student}",
        f"vaopd.teacher.path={teacher}",
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"vaopd.output_dir={folder / 'run'}",
        f"vaopd.answers={folder / 'answers'}",
        "vaopd.method=cot_sft",
        "data.train_batch_size=4",
        "actor_rollout_ref.rollout.n=2",  # a batch has 4 x 2 answers: the right ones, one to each row
        "actor_rollout_ref.actor.optim.lr=1e-2",
        f"trainer.total_training_steps={STEPS}",
    ]
    config = compose("tiny_cpu", overrides)
    os.makedirs(config.vaopd.output_dir)
    exported = fine_tune(config)
    return {"folder": folder, "config": config, "exported": exported, "written": written, "processor": processor}


def naive_loss(student, run) -> float:
    """Mean over the tokens of all right answers of -log p, one plain forward each."""
    from verl_vaopd.data.dataset import VisionDataset

    config, processor = run["config"], run["processor"]
    prompts = VisionDataset(config.data.train_files, processor.tokenizer, config.data, processor)
    right = [answer for answer in run["written"] if answer["accuracy"] == 1]
    assert len(right) == ROWS  # half of what was stored
    model = Qwen3VLForConditionalGeneration.from_pretrained(student, attn_implementation="sdpa")
    losses = []
    for row, answer in zip((prompts[n] for n in range(ROWS)), right, strict=True):
        text = processor.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)
        images = images_of(row["raw_prompt"]) or None
        budget = dict(config.data.mm_processor_kwargs) if images else {}
        inputs = processor(text=[text], images=images, return_tensors="pt", **budget)
        ids = torch.tensor([answer["token_ids"]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
        for name in ("attention_mask", "mm_token_type_ids"):
            if name in inputs:
                fill = torch.full_like(ids, name == "attention_mask")
                inputs[name] = torch.cat([inputs[name], fill], dim=1)
        with torch.no_grad():
            logits = model(**inputs).logits[0, -ids.shape[1] - 1 : -1, : len(processor.tokenizer)]
        losses.append(-logits.log_softmax(-1).gather(1, ids[0, :, None]).squeeze(1))
    return float(torch.cat(losses).mean())


def test_three_steps_on_the_right_answers(run):
    steps = records(run["folder"] / "run")
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert steps[0]["loss"] == pytest.approx(naive_loss(run["folder"] / "models/student", run), rel=1e-5)
    # The exported student is that of the last step: better than the last step's loss, which is from before its update.
    assert naive_loss(run["exported"], run) < steps[-1]["loss"] < steps[0]["loss"]


def test_the_student_is_exported_and_not_trained_again(run):
    chosen = json.loads((run["folder"] / "run/student/vaopd_checkpoint.json").read_text())
    assert chosen == {"step": STEPS, "accuracy": None}
    before = (run["folder"] / "run/metrics.jsonl").read_text()
    assert fine_tune(run["config"]) == run["exported"]
    assert (run["folder"] / "run/metrics.jsonl").read_text() == before


def test_fine_tuning_goes_on_from_its_checkpoint(run):
    config = run["config"].copy()
    config.trainer.total_training_steps = STEPS + 1
    assert fine_tune(config) == run["exported"]
    steps = records(run["folder"] / "run")
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    assert steps[3]["loss"] < steps[2]["loss"]  # the weights of step 3, not those of the beginning
    assert json.loads((run["folder"] / "run/student/vaopd_checkpoint.json").read_text())["step"] == STEPS + 1
