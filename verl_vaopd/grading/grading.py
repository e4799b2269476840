"""Do two answers say the same? mathruler first, then math-verify, on input that neither can hang on."""

import logging
import math
import re
import threading

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from mathruler.grader import grade_answer

from verl_vaopd.grading.choices import choice_letter

MAX_CHARACTERS = 256  # of an answer that is handed to a grader
MAX_POWER = 1000  # product of the numbers in all exponents
# math-verify evaluates sums, integrals, binomials and the like; only these commands are handed to it.
_COMMANDS = set(
    "frac dfrac tfrac sqrt pi cdot times div pm circ left right sin cos tan cot sec csc arcsin arccos arctan log ln "
    "infty cup cap in le leq ge geq lt gt ne neq approx alpha beta gamma theta phi lambda mu omega quad".split()
)
_DEGREE = re.compile(r"\^\s*\{\s*(?:°|\\degree)\s*\}|\^?\s*(?:°|\\degree(?![a-zA-Z]))")
_POWER = re.compile(r"\^|\*\*")
_EXPONENT = re.compile(
    r"\s*(?:\{((?:[^{}^]|\{[^{}^]*\})*)\}|\(([^()^]*)\)|([+-]?\d+|[A-Za-z']|\\(?:circ|pi|prime)(?![a-zA-Z])))"
)
# Units are mathruler's business: math-verify would drop any, so that 5 m were 5 s.
_LATEX = LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="none"),
)
_lock = threading.Lock()  # verl's reward workers call from threads; sympy's caches are shared
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns in every worker that timeouts are off
logging.getLogger("pylatexenc").setLevel(logging.ERROR)  # and it of every answer it cannot read


def bounded(text: str) -> bool:
    """Can the text be evaluated in little time? Short, no power of a power, no large exponent, no large factorial."""
    if len(text) > MAX_CHARACTERS or "!" in re.sub(r"(?<!\d)\d{1,2}!(?!!)", "", text):
        return False
    power = 1
    for operator in _POWER.finditer(text):
        exponent = _EXPONENT.match(text, operator.end())
        if not exponent or "**" in exponent[0] or _POWER.match(text[exponent.end() :].lstrip(" })")):
            return False
        power *= math.prod(max(1, int(number)) for number in re.findall(r"\d+", exponent[0]))
    return power <= MAX_POWER


def _verified(answer: str, truth: str) -> bool:
    r"""math-verify's judgement. Its timeouts need signals, which threads lack: they are off, input is bounded."""
    if not set(re.findall(r"\\([a-zA-Z]+)", answer + truth)) <= _COMMANDS:
        return False
    gold, given = (
        parse(f"${text.replace('$', '')}$", [_LATEX], fallback_mode="no_fallback", parsing_timeout=None)
        for text in (truth, answer)
    )
    return bool(gold and given) and verify(gold, given, timeout_seconds=None)


def same_answer(answer: str, truth: str) -> bool:
    """Is ``answer`` right?

    A truth that is the letter of a choice wants that letter, capital and with or without parentheses or the choice's
    text. Anything else is right if mathruler or else math-verify says so; degrees and units are what mathruler makes of
    them. What is too long or too large to evaluate is right if it is the same text. Never raises.
    """
    if not truth.strip():
        return False
    if letter := choice_letter(truth):
        return choice_letter(answer) == letter
    answer, truth = (_DEGREE.sub(r"^\\circ", text).strip() for text in (answer, truth))
    if not (bounded(answer) and bounded(truth)):
        return "".join(answer.split()) == "".join(truth.split())
    with _lock:
        return bool(grade_answer(answer, truth)) or _verified(answer, truth)
