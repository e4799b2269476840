"""Where a row's question, answer, images and id lie: ``--map question=...,answer=...,image=...``."""

import re
from dataclasses import dataclass

from verl_vaopd.data.bad_rows import RowError

KEYS = ("question", "answer", "image", "id")
MEND = "correct the row or --map, or leave the row out with --on-error skip"
_STEP = re.compile(r"\[(-?\d+|)\]|\.?([^.\[\]]+)")


@dataclass(frozen=True)
class FieldPath:
    """A field of a row. ``steps``: a name, an index (from 0, negative from the end), or None for every element."""

    text: str
    steps: tuple[str | int | None, ...]


@dataclass(frozen=True)
class FieldMap:
    """What ``--map`` says. ``images`` may be several fields, whose images follow each other, or none."""

    text: str
    question: FieldPath
    answer: FieldPath
    images: tuple[FieldPath, ...]
    id: FieldPath | None


def parse_path(text: str) -> FieldPath:
    """``a``, ``a.b``, ``a[0].b``, ``a[-1]``, ``a[].b`` (b of every element of a that has it).

    Raises:
        ValueError: not of that form.
    """
    steps, end = [], 0
    for match in _STEP.finditer(text):
        if match.start() != end or (end == 0 and match[0][0] in ".["):
            break
        steps.append(match[2] or (int(match[1]) if match[1] else None))
        end = match.end()
    if not text or end != len(text):
        raise ValueError(f"{text!r} is no field: write it as a, a.b, a[0].b, a[-1] or a[].b")
    return FieldPath(text, tuple(steps))


def parse_map(text: str) -> FieldMap:
    """``question=FIELD,answer=FIELD[,image=FIELD ...][,id=FIELD]``.

    Raises:
        ValueError: an unknown, doubled or missing key, or no field.
    """
    found: dict[str, list[FieldPath]] = {key: [] for key in KEYS}
    for part in text.split(","):
        key, equals, field = (piece.strip() for piece in part.partition("="))
        if key not in KEYS or not equals:
            raise ValueError(f"--map {text}: {part!r} must be KEY=FIELD with a key of {', '.join(KEYS)}")
        try:
            found[key].append(parse_path(field))
        except ValueError as error:
            raise ValueError(f"--map {text}: {key}: {error}") from None
    for key in ("question", "answer", "id"):
        if len(found[key]) > 1:
            raise ValueError(f"--map {text}: {key} is given twice")
    if not found["question"]:
        raise ValueError(f"--map {text}: has no question=FIELD")
    if not found["answer"]:
        raise ValueError(f"--map {text}: has no answer=FIELD, by which the checkpoint to keep is chosen")
    (question,), (answer,), (row_id, *_) = found["question"], found["answer"], found["id"] or [None]
    return FieldMap(text, question, answer, tuple(found["image"]), row_id)


def lookup(row: dict, path: FieldPath):
    """The value of a field; a list where the path has ``[]``. A name that the row has as it stands, dots and all, wins.

    Raises:
        RowError: the row has no such field (``missing_field``), or it is not UTF-8.
    """
    if path.text in row:
        return _follow(row, (path.text,), path.text)
    return _follow(row, path.steps, path.text)


def lookup_if_there(row: dict, path: FieldPath):
    """As ``lookup``; None where the path leads nowhere, as in rows without images."""
    try:
        return lookup(row, path)
    except RowError as error:
        if error.reason != "missing_field":
            raise
        return None


def _follow(value, steps: tuple, name: str):
    for place, step in enumerate(steps):
        if step is None and isinstance(value, list):
            return list(_of_each(value, steps[place + 1 :], name))
        if isinstance(step, str) and isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            raise RowError(name, "missing_field", f"has no {_said(step)} ({_there(value)})", MEND)
        if isinstance(value, RowError):
            raise value
    return value


def _of_each(values: list, steps: tuple, name: str):
    """The field of every element that has it and whose value is not null."""
    for each in values:
        try:
            found = _follow(each, steps, name)
        except RowError as error:
            if error.reason != "missing_field":
                raise
            continue
        if found is not None:
            yield found


def _said(step: str | int | None) -> str:
    return "list" if step is None else f"element {step}" if isinstance(step, int) else repr(step)


def _there(value) -> str:
    if isinstance(value, dict):
        return f"there is {', '.join(map(repr, list(value)[:12])) or 'nothing'}"
    if isinstance(value, list):
        return f"there is a list of {len(value)}"
    return "there is null" if value is None else f"there is {type(value).__name__}"
