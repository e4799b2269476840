"""Rows of a source as rows of verl's, each checked; bad ones are counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.images import check_image
from verl_vaopd.data.rows import verl_row
from verl_vaopd.data.text import PLACEHOLDER, check_answer, check_question
from verl_vaopd.grading.boxed import unboxed
from verl_vaopd.own_data.fields import FieldMap, lookup, lookup_if_there
from verl_vaopd.own_data.pictures import image_bytes
from verl_vaopd.own_data.tables import Table
from verl_vaopd.own_data.texts import answer_text, question_text, with_placeholders


@dataclass(frozen=True)
class OwnSource:
    """A source with what is asked of it. ``name``: the rows' data source, different for each source."""

    name: str
    table: Table
    fields: FieldMap
    root: Path
    weight: float = 1.0


def rows_of(source: OwnSource, conversion: Conversion) -> Iterator[dict]:
    r"""The good rows in verl's format; bad ones go to ``conversion``. ``index`` is the row in the source.

    A row's id is NAME/ID, or NAME/INDEX without a field for it. The truth is the answer without one outer ``\boxed{}``.

    Raises:
        ConversionError: ``image=`` is given and no good row has an image.
    """
    total = len(source.table)
    conversion.upstream[source.name] = 0
    rows = conversion.progress(source.table.rows(source.fields), total, source.name)
    put_right = {"in front of": 0, "as often as there are images in": 0}
    good = images = 0
    for index, (file, row, values) in enumerate(rows):
        conversion.upstream[source.name] += 1
        row_id = f"{source.name}/{index}"
        try:
            if isinstance(values, RowError):
                raise values
            row_id = _id(source, values, row_id)
            conversion.check_id(source.name, row_id, source.fields.id.text if source.fields.id else "id")
            made, asked = _verl_row(source, values, index, row_id)
        except RowError as error:
            conversion.bad.append(error.at(file, row, row_id))
            continue
        good, images = good + 1, images + len(made["images"])
        if made["extra_info"]["question"] != asked:
            put_right["as often as there are images in" if PLACEHOLDER in asked else "in front of"] += 1
        yield made
    if good and not images and source.fields.images:
        names = " or ".join(field.text for field in source.fields.images)
        raise conversion.failure(
            f"no row of {source.table.label} has an image at {names}: correct --map, or leave image= out of it"
        )
    for where, count in put_right.items():
        if count:
            conversion.note(f"{source.table.label}: {PLACEHOLDER} was put {where} {count:,} questions")


def _id(source: OwnSource, values: dict, otherwise: str) -> str:
    if source.fields.id is None:
        return otherwise
    found = answer_text(lookup_if_there(values, source.fields.id), source.fields.id.text)
    return f"{source.name}/{found}" if found else ""


def _verl_row(source: OwnSource, values: dict, index: int, row_id: str) -> tuple[dict, str]:
    """The row, and the question as it was."""
    fields = source.fields
    asked = question_text(lookup(values, fields.question), fields.question.text)
    answer = answer_text(lookup(values, fields.answer), fields.answer.text)
    truth = unboxed(answer)
    check_answer(answer if truth is None else truth, fields.answer.text)
    images = []
    for field in fields.images:
        images += image_bytes(lookup_if_there(values, field), field.text, source.root)
    question = with_placeholders(asked, len(images))
    check_question(question, len(images), fields.question.text)
    for number, image in enumerate(images):
        check_image(image, f"image {number}" if len(images) > 1 else fields.images[0].text)
    return verl_row(source.name, "train", index, row_id, question, answer, truth or answer, images), asked
