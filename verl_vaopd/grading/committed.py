"""The answer that a text commits to."""

import json
import re

from verl_vaopd.grading.boxed import boxes

_MARKER = re.compile(
    r"""
    (?<![a-z]) (?:
        (?:final\s+)? answer (?:\s+is)? [ \t*_]* [:：]            # Answer:  Final answer:  The answer is:
      | the \s+ (?:(?:final|correct|right)\s+)? answer \s+ is \b  # The answer is
      )
    | (?:最终|最后|正确)? (?:的)? (?:答案 \s* (?:应?[为是选] | 】\s*[:：]? | [:：]) | 答 \s* [:：])  # 答案：  【答案】
    | (?:最终|最后) 答案
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BETWEEN = re.compile(r"[\s$*_:：(\[\\]*")  # of a marker and the box that directly follows it
_AROUND = " \t\r#*_`:："
_SO = r"(?:therefore|thus|hence|(?-i:[Ss]o))"  # not the segment SO, nor SO_2
_HENCE = r"(?:(?:因此|所以|故)(?=\s*(?:[,，:：选a-zA-Z\d\\$(（【]|答案))|∴)"  # not 故宫
_LEAD = re.compile(
    rf"(?:(?:(?:{_SO}|then|simply|clearly|just)(?=\s*[,，:：]|\s+(?:[\d\\$(+-]|(?-i:[A-Z])(?![a-zA-Z])|[a-z]\s*=))|{_HENCE})"
    r"[\s,，:：]*)+",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(rf"[*_ \t]*(?:{_SO}(?=[\s,，:：])|{_HENCE})", re.IGNORECASE)
_REASON = re.compile(r"(?<![a-z])(?:because|since)(?![a-z])|因为|由于", re.IGNORECASE)
_WEAK = (  # in this order, where no box and no marker is
    re.compile(r"<answer>((?:[^<]|<(?!/?answer>))+)</answer>", re.IGNORECASE),
    re.compile(r"""["'](?:final[_ ]?)?answer["']\s*:\s*("(?:[^"\\]|\\.)*"|[^\s"{}\[\],]+)""", re.IGNORECASE),  # JSON
    re.compile(r"(\\boxed\s*\{[^\n]*)"),  # cut off
    re.compile(r"\\boxed\s+([^\s{][^\n]*)"),
    re.compile(
        r"^[#*_ \t]*(?:the )?(?:final |correct )?answer[*_ \t:：]*\n\s*(\S[^\n]*)", re.IGNORECASE | re.MULTILINE
    ),
)
_END = re.compile(r"[。！？]|[.?]\s+(?=[A-Z][a-z ]|[^\x00-\x7f])")


def committed_answer(text: str) -> str:
    r"""The first answer that ``text`` commits to, in the order of the output; ``text`` itself if it commits to none.

    It commits with a balanced ``\boxed{...}`` that holds something, or with a marker (``Answer:``, ``Final answer:``,
    ``The answer is``, ``答案：``, ``答案是``, ``最终答案`` and the like, in any case). A marker's answer is the content
    of the box that directly follows it, else the first sentence behind it on its line; a marker with nothing there
    does not count. Neither does a reason behind it. A text without any of these may still say its answer in a weaker
    way (``_WEAK``).
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
        if answer := _answer_of(line):
            return answer
    if found:
        _, inside, end = found[0]
        return text[inside:end].strip()
    return _weakly_committed(text) or text


def _answer_of(line: str) -> str:
    """The first sentence of what stands behind a marker, without ``therefore`` before it and ``because ...`` behind."""
    sentence = line[: end.start()] if (end := _END.search(line)) else line
    sentence = sentence.strip(_AROUND)
    if lead := _LEAD.match(sentence):
        sentence = sentence[lead.end() :] or sentence
    if reason := _REASON.search(sentence):
        sentence = sentence[: reason.start()].rstrip(" ,，;(（*") or sentence
    return sentence.strip(_AROUND).rstrip(".")


def _weakly_committed(text: str) -> str:
    """The answer of a tag, of JSON, of a box that is cut off, below a heading, of a last line with ``Therefore``."""
    for pattern in _WEAK:
        if match := pattern.search(text):
            answer = match[1].strip()
            if answer[:1] == '"':
                answer = _unquoted(answer)
            return _answer_of(answer)
    last = text.rstrip().rpartition("\n")[2]
    return _answer_of(last) if _CONCLUSION.match(last) else ""


def _unquoted(literal: str) -> str:
    try:
        return json.loads(literal, strict=False)
    except ValueError:  # LaTeX as it is
        return literal[1:-1]
