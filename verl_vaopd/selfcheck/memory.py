"""A student's step on a GPU against the memory that ``verl-vaopd plan`` predicts for its shape."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoConfig

from verl_vaopd.algorithm import default_chunk_size
from verl_vaopd.model.by_hand import batch_of
from verl_vaopd.planning.memory import RESERVE, Settings, phases
from verl_vaopd.planning.recipe import model_shape
from verl_vaopd.selfcheck.check import Check, at_most, not_checked
from verl_vaopd.selfcheck.engines import actor, build_student
from verl_vaopd.selfcheck.prompts import Prompts
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.tiny.models import random_models
from verl_vaopd.tiny.tokenizer import make_tokenizer

WIDTH, RESPONSES, PROMPT_LIMIT, BUDGET = 2048, (1024, 1024, 1024), 64, 9600
NAME = "memory of the student's step"


def plan(student: Path, teacher: Path) -> Settings:
    """The rollouts below, on one GPU."""
    shape = model_shape(str(student))
    return Settings(
        student=shape,
        teacher=model_shape(str(teacher)),
        gpus=1,
        teacher_gpus=1,
        colocated=False,
        prompts=3,
        rollouts=len(RESPONSES),
        prompt_limit=PROMPT_LIMIT,
        response_limit=max(RESPONSES),
        student_tokens=BUDGET,
        teacher_tokens=BUDGET,
        sequence_parallel=1,
        checkpointing=False,
        student_offload=False,
        optimizer_offload=False,
        teacher_offload=False,
        tensor_parallel=1,
        vllm_share=0.6,
        chunk_rows=default_chunk_size(shape.text.vocab_size, dtype=torch.bfloat16),
        sync_bucket=0,
    )


def checks(folder: Path, device: str) -> Iterator[Check]:
    """By the allocator's peak, less what other checks hold; the plan's reserve does not count."""
    if device != "cuda":
        yield not_checked(NAME, "measured on a GPU only")
        return
    held = torch.cuda.memory_allocated()
    student, teacher = random_models(folder / "wide", student_hidden=WIDTH, teacher_hidden=WIDTH)
    total = torch.cuda.get_device_properties(0).total_memory
    predicted = next(phase for phase in phases(plan(student, teacher), total) if phase.name == "student")
    worker = build_student(student, "bf16")
    prompts = Prompts(AutoConfig.from_pretrained(student), RESPONSES)
    config = VAOPDConfig(teacher=TeacherConfig(path=str(teacher)), output_dir="x", method="opd")
    worker.attach_objective(config, len(make_tokenizer()), actor(), 0.7)
    engine = worker.engine
    engine.vision = prompts.original
    lengths = [length for _, _, length in prompts.rows]
    columns = {
        "token_weights": [torch.full((n,), 1 / sum(lengths)) for n in lengths],
        "rollout_log_probs": [torch.zeros(n) for n in lengths],
        "teacher_hidden": [torch.randn(n, WIDTH).bfloat16() for n in lengths],
    }
    with engine.train_mode():
        for _ in range(2):  # the second has AdamW's states
            torch.cuda.reset_peak_memory_stats()
            engine.optimizer_zero_grad()
            engine.forward_backward_batch(batch_of(prompts.rows, columns, BUDGET), None)
            engine.optimizer_step()
    peak, limit = torch.cuda.max_memory_allocated() - held, predicted.total - RESERVE
    yield at_most(NAME, peak / limit, 1.0, "of the plan", f"{peak / 1e9:.2f} GB, planned {limit / 1e9:.2f} GB")
