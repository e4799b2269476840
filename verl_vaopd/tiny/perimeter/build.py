"""Make teacher, student and data of the task, as ``tiny.build`` makes those of the figures."""

from pathlib import Path

from verl_vaopd.data.perimeter import SPLITS, make_rows
from verl_vaopd.tiny.build import RANDOM_ROWS, finish, reads_enough, threads, write_data
from verl_vaopd.tiny.models import random_models
from verl_vaopd.tiny.perimeter.training import train_teacher
from verl_vaopd.tiny.processor import make_processor

MAX_NEW_TOKENS = 256


def build(output_dir: Path, seed: int) -> dict[str, float]:
    """Write teacher/, student/ and data/ into an existing folder. Returns and raises as ``tiny.build.build``."""
    with threads(1):
        held_out = write_data(output_dir / "data", seed, SPLITS, make_rows)["validation"]
        processor = make_processor()
        enough = reads_enough(processor, held_out, MAX_NEW_TOKENS)
        teacher = train_teacher(processor, seed, enough=enough)
        return finish(output_dir, teacher, processor, held_out, seed, MAX_NEW_TOKENS)


def build_random(output_dir: Path, seed: int) -> dict[str, float]:
    """Write untrained models and a few rows into an existing folder, within seconds. Returns no measurement."""
    write_data(output_dir / "data", seed, RANDOM_ROWS, make_rows)
    random_models(output_dir, seed)
    return {}
