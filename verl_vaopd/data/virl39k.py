"""ViRL39K (TIGER-Lab/ViRL39K): all rows but those of the validation set, which is Geometry3K's."""

from collections import defaultdict
from collections.abc import Iterator

from verl_vaopd.data import geometry3k
from verl_vaopd.data.archive import ImageArchive
from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.images import UNREADABLE, check_image, pixel_digest
from verl_vaopd.data.rows import verl_row
from verl_vaopd.data.sources import Source
from verl_vaopd.data.text import bare_question, cell, check_question, check_truth
from verl_vaopd.data.upstream import read_rows, rows_in
from verl_vaopd.grading.boxed import unboxed

REPOSITORY = "TIGER-Lab/ViRL39K"
DATA_SOURCE = "virl39k"
UPSTREAM = {"train": 38870}  # rows
TABLE, ARCHIVE = "39Krelease.parquet", "images.zip"
COLUMNS = ("question", "answer", "qid", "image")
OVERLAP = "in_the_validation_set"


def rows_of(source: Source, archive: ImageArchive, conversion: Conversion) -> Iterator[dict]:
    r"""The good rows in verl's format; bad ones go to ``conversion``. ``index`` is the row upstream.

    The truth is the answer without its outer ``\boxed{}``. An answer that has no such box, or one with unbalanced
    braces, is the truth as it stands, with a warning.
    """
    files = source.find(TABLE)
    total = rows_in(files)
    conversion.check_size(source, "train", total, UPSTREAM["train"])
    for file, row, values in conversion.progress(read_rows(files, COLUMNS), total, f"{DATA_SOURCE} train"):
        row_id = None if values["qid"] is None else str(values["qid"])
        try:
            conversion.check_id("train", values["qid"], "qid")
            question, answer = (cell(values[name], name, str) for name in ("question", "answer"))
            names = cell(values["image"], "image", list) or []
            check_question(question, len(names), "question")
            truth = unboxed(answer or "")
            check_truth(answer if truth is None else truth, "answer")
            images = []
            for number, name in enumerate(names):
                if cell(name, f"image[{number}]", str) is None:
                    raise RowError(f"image[{number}]", "missing_image", "names no image", UNREADABLE)
                images.append(archive.read(name, f"image[{number}]"))
                check_image(images[-1], f"image[{number}]")
        except RowError as error:
            conversion.bad.append(error.at(file, row, row_id))
            continue
        if truth is None:
            mend = "the answer is compared as it stands; correct it in the source if it should not be"
            warning = RowError("answer", "not_one_box", f"{answer[:60]!r} is not one whole \\boxed{{}}", mend)
            conversion.warnings.append(warning.at(file, row, row_id))
        yield verl_row(DATA_SOURCE, "train", row, row_id, question, answer, truth or answer, images)


def image_bytes(row: dict) -> list[bytes]:
    return [image["bytes"] for image in row["images"]]


def without(rows: Iterator[dict], held_out: list[dict], conversion: Conversion) -> Iterator[dict]:
    """The rows whose question and decoded images are not those of a held-out row; the others' ids are kept."""
    seen = defaultdict(set)  # question -> images
    for row in held_out:
        seen[bare_question(row["extra_info"]["question"])].add(tuple(map(pixel_digest, image_bytes(row))))
    dropped = conversion.dropped.setdefault(OVERLAP, [])
    for row in rows:
        images = seen.get(bare_question(row["extra_info"]["question"]))
        if images and tuple(map(pixel_digest, image_bytes(row))) in images:
            dropped.append(row["extra_info"]["id"])
        else:
            yield row


def convert(conversion: Conversion, source: Source, geometry: Source) -> None:
    """Write train and validation."""
    validation = geometry3k.validation_rows(geometry, conversion)
    conversion.write("validation", validation)
    with ImageArchive(source.find(ARCHIVE)[0]) as archive:
        conversion.write("train", without(rows_of(source, archive, conversion), validation, conversion))
