"""Make teacher, student and data, measure them, and refuse what would not show the method."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from verl_vaopd.algorithm import pixelate
from verl_vaopd.data.synthetic_geometry import SPLITS, make_rows, write_rows
from verl_vaopd.tiny.accuracy import MAX_NEW_TOKENS, accuracy, answers
from verl_vaopd.tiny.models import random_models, save_model
from verl_vaopd.tiny.processor import make_processor
from verl_vaopd.tiny.student import make_student_reading_badly
from verl_vaopd.tiny.train_teacher import train_teacher

THREADS = 2  # more hardly help models of this size, and the sums in a matrix product depend on it
TEACHER_AT_LEAST, PIXELATED_AT_MOST = 0.90, 0.10
RANDOM_ROWS = {"train": 64, "validation": 16, "test": 16}


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_data(folder: Path, seed: int, sizes: dict[str, int], make=make_rows) -> dict[str, list[dict]]:
    """Write ``folder/{train,validation,test}.parquet``. Returns the rows of each split."""
    folder.mkdir(parents=True)
    rows = {split: make(split, count, seed) for split, count in sizes.items()}
    for split in rows:
        write_rows(rows[split], folder / f"{split}.parquet")
    return rows


def build(output_dir: Path, seed: int) -> dict[str, float]:
    """Write teacher/, student/ and data/ into an existing folder; about two minutes on two cores.

    Returns:
        What was measured on the validation split: greedy accuracy of the teacher, of the teacher on pixelated figures,
        and of the student; sampled accuracy and vision noise of the student.
    Raises:
        RuntimeError: a teacher that reads too little, or answers without seeing the digits.
    """
    with threads(THREADS):
        held_out = write_data(output_dir / "data", seed, SPLITS)["validation"]
        processor = make_processor()
        teacher = train_teacher(processor, seed, enough=reads_enough(processor, held_out))
        return finish(output_dir, teacher, processor, held_out, seed)


def reads_enough(processor, held_out: list[dict], max_new_tokens: int = MAX_NEW_TOKENS) -> Callable:
    """Whether a model has ``TEACHER_AT_LEAST`` of the rows right, greedily; it is in train mode before and after."""

    def enough(model) -> bool:
        share = accuracy(answers(model.eval(), processor, held_out, max_new_tokens=max_new_tokens), held_out)
        model.train()
        return share >= TEACHER_AT_LEAST

    return enough


def finish(
    output_dir: Path, teacher, processor, held_out: list[dict], seed: int, max_new_tokens: int = MAX_NEW_TOKENS
) -> dict[str, float]:
    """Measure the teacher on rows held out, make its student, write both. Returns and raises as ``build``."""
    read = partial(answers, max_new_tokens=max_new_tokens)
    measured = {
        "teacher": accuracy(read(teacher, processor, held_out), held_out),
        "teacher_pixelated": accuracy(read(teacher, processor, held_out, view=pixelate), held_out),
    }
    print(
        f"teacher: {measured['teacher']:.1%} of {len(held_out)} held-out figures right, "
        f"{measured['teacher_pixelated']:.1%} pixelated",
        flush=True,
    )
    if measured["teacher"] < TEACHER_AT_LEAST or measured["teacher_pixelated"] > PIXELATED_AT_MOST:
        raise RuntimeError(
            f"the teacher must have at least {TEACHER_AT_LEAST:.0%} right and at most {PIXELATED_AT_MOST:.0%} "
            "when the figures are pixelated; try another --seed"
        )
    student, measured["student_vision_noise"] = make_student_reading_badly(
        teacher, processor, held_out, seed, max_new_tokens
    )
    measured["student"] = accuracy(read(student, processor, held_out), held_out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        measured["student_sampled"] = accuracy(read(student, processor, held_out, sample=True), held_out)
    print(
        f"student: {measured['student']:.1%} right, {measured['student_sampled']:.1%} when sampled "
        f"(vision noise {measured['student_vision_noise']:.2f})",
        flush=True,
    )
    save_model(teacher, processor, output_dir / "teacher")
    save_model(student, processor, output_dir / "student")
    return measured


def build_random(output_dir: Path, seed: int) -> dict[str, float]:
    """Write untrained models and a few rows into an existing folder, within seconds. Returns no measurement."""
    write_data(output_dir / "data", seed, RANDOM_ROWS)
    random_models(output_dir, seed)
    return {}
