"""The answer that a text commits to."""

import re

from verl_vaopd.grading.boxed import boxes

_MARKER = re.compile(
    r"""
    (?<![a-z]) (?:
        (?:final\s+)? answer (?:\s+is)? [ \t*_]* [:：]            # Answer:  Final answer:  The answer is:
      | the \s+ (?:(?:final|correct|right)\s+)? answer \s+ is \b  # The answer is
      )
    | (?:最终|最后|正确)? (?:的)? (?:答案 \s* (?:为|是|[:：]) | 答 \s* [:：])  # 答案：  答案是  最终答案是  答：
    | (?:最终|最后) 答案
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BETWEEN = re.compile(r"[\s$*_:：(\[\\]*")  # of a marker and the box that directly follows it
_AROUND = " \t\r#*_`:："
_END = re.compile(r"[。！？]|[.?]\s+(?=[A-Z][a-z ]|[^\x00-\x7f])")


def committed_answer(text: str) -> str:
    r"""The first answer that ``text`` commits to, in the order of the output; ``text`` itself if it commits to none.

    It commits with a balanced ``\boxed{...}`` that holds something, or with a marker (``Answer:``, ``Final answer:``,
    ``The answer is``, ``答案：``, ``答案是``, ``最终答案`` and the like, in any case). A marker's answer is the content
    of the box that directly follows it, else the first sentence behind it on its line; a marker with nothing there
    does not count.
    """
    found = [box for box in boxes(text) if text[box[1] : box[2]].strip()]
    first_box = found[0][0] if found else len(text)
    starts = {start: (inside, end) for start, inside, end in found}
    has_marker = "答" in text or "answer" in text.lower()
    for marker in _MARKER.finditer(text, 0, first_box) if has_marker else ():
        line_end = text.find("\n", marker.end())
        line = text[marker.end() : len(text) if line_end < 0 else line_end]
        behind = marker.end() + _BETWEEN.match(line).end()
        box = next((each for each in (behind, behind - 1) if each in starts), None)
        if box is not None:
            inside, end = starts[box]
            return text[inside:end].strip()
        sentence = line[: end.start()] if (end := _END.search(line)) else line
        if answer := sentence.strip(_AROUND).rstrip("."):
            return answer
    if found:
        _, inside, end = found[0]
        return text[inside:end].strip()
    return text
