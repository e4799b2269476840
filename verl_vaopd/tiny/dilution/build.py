"""Make teacher, student and data of the task, measure them, and refuse what would not show the method."""

from pathlib import Path

from verl_vaopd.algorithm import pixelate
from verl_vaopd.data.synthetic_geometry import SPLITS, make_rows, write_rows
from verl_vaopd.tiny.accuracy import accuracy, answers
from verl_vaopd.tiny.build import PIXELATED_AT_MOST, RANDOM_ROWS, TEACHER_AT_LEAST, reads_enough, threads
from verl_vaopd.tiny.dilution.conversations import question
from verl_vaopd.tiny.dilution.training import train
from verl_vaopd.tiny.dilution.words import LENGTHS, VOCABULARY, styles
from verl_vaopd.tiny.models import random_models, save_model
from verl_vaopd.tiny.processor import make_processor
from verl_vaopd.tiny.student import make_student_reading_badly


def rows_of(split: str, words: int, count: int, seed: int) -> list[dict]:
    """The figures' rows, asked for an answer with so many words; the same figures for every number of words."""
    rows = make_rows(split, count, seed)
    for row in rows:
        row["prompt"][0]["content"] = f"<image>{question(words)}"
        row["extra_info"]["question"] = question(words)
    return rows


def write_data(folder: Path, seed: int, sizes: dict[str, int]) -> dict[str, list[dict]]:
    """Write ``folder/{split}_{words}.parquet``. Returns the rows of each split without words."""
    folder.mkdir(parents=True)
    for split, count in sizes.items():
        for words in LENGTHS:
            write_rows(rows_of(split, words, count, seed), folder / f"{split}_{words}.parquet")
    return {split: rows_of(split, 0, count, seed) for split, count in sizes.items()}


def build(output_dir: Path, seed: int) -> dict[str, float]:
    """Write teacher/, student/ and data/ into an existing folder.

    Returns:
        What was measured on the validation split without words, as of ``tiny.build``.
    Raises:
        RuntimeError: a teacher that reads too little, or answers without seeing the digits.
    """
    with threads(1):
        held_out = write_data(output_dir / "data", seed, SPLITS)["validation"]
        processor = make_processor(VOCABULARY)
        teacher, other = train(processor, styles(seed), seed, enough=reads_enough(processor, held_out))
        measured = {
            "teacher": accuracy(answers(teacher, processor, held_out), held_out),
            "teacher_pixelated": accuracy(answers(teacher, processor, held_out, view=pixelate), held_out),
            "student_before_noise": accuracy(answers(other, processor, held_out), held_out),
        }
        print(", ".join(f"{name} {share:.1%}" for name, share in measured.items()), flush=True)
        if measured["teacher"] < TEACHER_AT_LEAST or measured["teacher_pixelated"] > PIXELATED_AT_MOST:
            raise RuntimeError(
                f"the teacher must have at least {TEACHER_AT_LEAST:.0%} right and at most {PIXELATED_AT_MOST:.0%} "
                "when the figures are pixelated; try another --seed"
            )
        student, measured["student_vision_noise"] = make_student_reading_badly(other, processor, held_out, seed)
        measured["student"] = accuracy(answers(student, processor, held_out), held_out)
        save_model(teacher, processor, output_dir / "teacher")
        save_model(student, processor, output_dir / "student")
    return measured


def build_random(output_dir: Path, seed: int) -> dict[str, float]:
    """Write untrained models and a few rows into an existing folder, within seconds. Returns no measurement."""
    write_data(output_dir / "data", seed, RANDOM_ROWS)
    random_models(output_dir, seed, processor=make_processor(VOCABULARY))
    return {}
