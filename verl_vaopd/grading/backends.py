"""What sympy says of two formulas or relations: mathruler first, then math-verify. In graders only (``pool.py``)."""

import logging
import re

import sympy
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from mathruler.grader import grade_answer

from verl_vaopd.formulas.brackets import split
from verl_vaopd.formulas.points import SIGN

_LATEX = LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="none"),
)
_SPELLED = str.maketrans(
    {"π": r"\pi ", "Ω": r"\Omega ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∠": r"\angle "}
    | {"△": r"\triangle ", "°": r"^{\circ}", "±": r"\pm ", "*": r"\cdot ", "$": ""}
)
_MIXED = re.compile(r"(?<![\d.}^_])(\d+)\s*(\\frac\{(\d+)\}\{(\d+)\})")
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns in every process that its own timeouts are off
logging.getLogger("pylatexenc").setLevel(logging.ERROR)  # and it of every answer it cannot read


def equal(given: str, wanted: str) -> bool:
    """Are two plain texts (``text.py``) the same formula or relation? May take any time and memory, and raise."""
    given_sides, wanted_sides = (split(text, SIGN, keep=True) for text in (given, wanted))
    if len(given_sides) == len(wanted_sides) == 3:
        return _same_relation(given_sides, wanted_sides)
    if len(given_sides) != 1 or len(wanted_sides) != 1:
        return False
    given, wanted = _latex(given), _latex(wanted)
    if _another_case(given, wanted):
        return False
    if _one_case(given, wanted) and grade_answer(given, wanted):
        return True
    gold, answer = _parsed(wanted), _parsed(given)
    return bool(gold and answer) and verify(gold, answer, timeout_seconds=None)


def _latex(text: str) -> str:
    r"""In LaTeX, mixed numbers as sums: both read ``2\frac{1}{2}`` as a product."""
    text = _MIXED.sub(lambda match: f"({match[1]}+{match[2]})" if int(match[3]) < int(match[4]) else match[0], text)
    return text.translate(_SPELLED)


def _letters(latex: str) -> set[str]:
    return set(re.findall("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", latex)))


def _one_case(given: str, wanted: str) -> bool:
    """Does no letter stand in both cases? mathruler does not tell x from X."""
    letters = _letters(given) | _letters(wanted)
    return not any(each.swapcase() in letters for each in letters)


def _another_case(given: str, wanted: str) -> bool:
    """Is a letter of the one in the other in the other case alone?"""
    letters, others = _letters(given), _letters(wanted)
    return any(each.swapcase() in others - letters for each in letters - others)


def _parsed(latex: str) -> list:
    """As math-verify reads it; its timeouts, which need signals, are off: the grader has its own."""
    return parse(f"${latex}$", [_LATEX], fallback_mode="no_fallback", parsing_timeout=None)


def _same_relation(given: list[str], wanted: list[str]) -> bool:
    """Is one a multiple of the other? ``2x+2y=4`` and ``x+y=2``; of inequalities a positive one."""
    (one, sign), (other, wanted_sign) = _difference(*given), _difference(*wanted)
    if sign != wanted_sign or None in (one, other):
        return False
    ratio = sympy.simplify(one / other)
    return bool(ratio.is_number and ratio.is_finite and (ratio.is_positive if sign[0] == "<" else ratio != 0))


def _difference(left: str, sign: str, right: str) -> tuple[sympy.Expr | None, str]:
    """Left less right, of ``>`` right less left, and the sign, ``>`` as ``<``."""
    sides = [_parsed(_latex(side)) for side in (left, right)]
    if not all(sides) or not all(isinstance(side[0], sympy.Expr) for side in sides):
        return None, ""
    first, second = (side[0].doit() for side in sides)
    return (second - first, "<" + sign[1:]) if sign[0] == ">" else (first - second, sign)
