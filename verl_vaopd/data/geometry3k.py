"""Geometry3K (hiyouga/geometry3k): all training rows, 200 of the official validation split, the test split."""

import random
from collections.abc import Iterator

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.images import check_image
from verl_vaopd.data.rows import verl_row
from verl_vaopd.data.sources import Source
from verl_vaopd.data.text import cell, check_question, check_truth
from verl_vaopd.data.upstream import read_rows, rows_in

REPOSITORY = "hiyouga/geometry3k"
DATA_SOURCE = "geometry3k"
UPSTREAM = {"train": 2101, "validation": 300, "test": 601}  # rows
COLUMNS = ("images", "problem", "answer", "id")
VALIDATION_ROWS, SEED = 200, 42
SELECTION = {"from": f"{REPOSITORY}, validation split", "rows": VALIDATION_ROWS, "seed": SEED}


def pattern(split: str) -> str:
    """The files of a split, or of all with ``*``."""
    return f"data/{split}-*.parquet"


def rows_of(source: Source, split: str, conversion: Conversion) -> Iterator[dict]:
    """The good rows of a split in verl's format; bad ones go to ``conversion``. ``index`` is the row upstream."""
    files = source.find(pattern(split))
    total = rows_in(files)
    conversion.check_size(source, split, total, UPSTREAM[split])
    rows = conversion.progress(read_rows(files, COLUMNS), total, f"{DATA_SOURCE} {split}")
    for index, (file, row, values) in enumerate(rows):
        row_id = None if values["id"] is None else str(values["id"])
        try:
            conversion.check_id(split, values["id"], "id")
            question, answer = (cell(values[name], name, str) for name in ("problem", "answer"))
            entries = cell(values["images"], "images", list) or []
            check_question(question, len(entries), "problem")
            check_truth(answer, "answer")
            images = [_bytes(entry, f"images[{number}]") for number, entry in enumerate(entries)]
        except RowError as error:
            conversion.bad.append(error.at(file, row, row_id))
        else:
            yield verl_row(DATA_SOURCE, split, index, row_id, question, answer, answer, images)


def _bytes(entry, name: str) -> bytes:
    """An encoded image, which can be decoded. Raises RowError."""
    data = cell((cell(entry, name, dict) or {}).get("bytes"), f"{name}.bytes", bytes)
    check_image(data, name)
    return data


def selected(rows: list[dict], total: int) -> list[dict]:
    """200 rows, in their order upstream; all of them if there are fewer.

    Seed 42 puts the ``total`` rows of the split in order and the first 200 that are good are taken, so that a bad row
    changes no other choice. Of 300 good rows these are the 200 of the authors' release.
    """
    order = random.Random(SEED).sample(range(total), total)  # its first 200 are those that a sample of 200 draws
    rank = {index: place for place, index in enumerate(order)}
    chosen = sorted(rows, key=lambda row: rank[row["extra_info"]["index"]])[:VALIDATION_ROWS]
    return sorted(chosen, key=lambda row: row["extra_info"]["index"])


def validation_rows(source: Source, conversion: Conversion) -> list[dict]:
    """The rows that choose a checkpoint, in training on either data set."""
    rows = list(rows_of(source, "validation", conversion))
    chosen = selected(rows, rows_in(source.find(pattern("validation"))))
    if len(chosen) < VALIDATION_ROWS:
        conversion.note(f"{len(chosen)} good validation rows where {VALIDATION_ROWS} are wanted: all are taken")
    return chosen


def convert(conversion: Conversion, source: Source) -> None:
    """Write train, validation and test."""
    for split in ("train", "validation", "test"):
        rows = validation_rows(source, conversion) if split == "validation" else rows_of(source, split, conversion)
        conversion.write(split, rows)
