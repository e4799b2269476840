"""Questions and answers of any shape as text, with one ``<image>`` for each image."""

import math

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.text import MEND, PLACEHOLDER, shown

IMAGE_PARTS = ("image", "image_url", "input_image")
TEXT_PARTS = ("text", "input_text")


def question_text(value, field: str) -> str:
    """A question that is text, or parts ``{type: text, text: ...}`` and ``{type: image, ...}`` as chats have it.

    Raises:
        RowError: it is neither, or not UTF-8.
    """
    if isinstance(value, list):
        return "".join(_part(part, f"{field}[{place}]") for place, part in enumerate(value))
    return _utf8("" if value is None else value, field)


def _part(part, field: str) -> str:
    kind = _kind(part)
    if kind in IMAGE_PARTS:
        return PLACEHOLDER
    if kind in TEXT_PARTS:
        return _utf8(part.get("text"), field)
    raise RowError(field, "question", f"is no part {{type: text}} or {{type: image}} but {shown(part)}", MEND)


def _kind(part) -> str | None:
    return part.get("type") if isinstance(part, dict) else None


def answer_text(value, field: str) -> str:
    """An answer that is text, a number, or parts ``{type: text, text: ...}``.

    Raises:
        RowError: it is something else, or not UTF-8.
    """
    if isinstance(value, list) and value and all(_kind(part) in TEXT_PARTS for part in value):
        return question_text(value, field)
    if isinstance(value, list | dict | bytes | bool):
        raise RowError(field, "answer", f"is {shown(value)}, it must be text or a number", MEND)
    if isinstance(value, float) and math.isinf(value):
        raise RowError(
            field, "answer", "is a number beyond what 64 bits hold, or infinite", f"write it as text, or {MEND}"
        )
    empty = value is None or value != value  # pandas writes NaN
    return _utf8("" if empty else str(value), field)


def with_placeholders(text: str, images: int) -> str:
    """The question with one ``<image>`` for each of its images. The rule:

    - as many ``<image>`` as images: it stays as it is;
    - none: one for each image is put in front;
    - one, where there are several images: it stands for all of them, and becomes as many;
    - any other number stays, and is refused later (``placeholder_mismatch``): which image goes where is not known, or
      the image itself is missing.
    """
    count = text.count(PLACEHOLDER)
    if count == 0:
        return PLACEHOLDER * images + text
    if count == 1 and images > 1:
        return text.replace(PLACEHOLDER, PLACEHOLDER * images)
    return text


def _utf8(value, field: str) -> str:
    if not isinstance(value, str):
        raise RowError(field, "not_text", f"is {shown(value)}, it must be text", MEND)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(field, "not_utf8", f"is not UTF-8 text ({error.reason})", MEND) from error
    return value
