"""Do two answers say the same? The rules of docs/data.md; formulas that points do not decide are left to ``equal``."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from verl_vaopd.formulas.arithmetic import proportional, same
from verl_vaopd.formulas.points import same_formula, same_relation
from verl_vaopd.formulas.units import DEGREE, MEANINGS, PERCENT, RADIAN, Unit, read_unit, split_unit
from verl_vaopd.formulas.values import rounds_to, value
from verl_vaopd.grading.choices import choice_letters, choice_text, glued_letters
from verl_vaopd.grading.clashes import clash, glued, in_bases, says_both
from verl_vaopd.grading.reading import as_region, readings
from verl_vaopd.grading.shapes import Expression, Interval, Named, Region, Relation, Several, Shape, Words, name_of
from verl_vaopd.grading.text import key, plain

Equal = Callable[[str, str], bool]
"""Are two plain texts (``text.py``), two formulas or two relations, the same?"""
_YES_NO = ("yes", "no", "true", "false", "是", "否", "正确", "错误")
_SIGNS = ("=", "≈", "~", "*", r"\approx", r"\sim")  # which is it: <, > or =?
_UNORDERED = ("", "or", "{}")


def judge(answer: str, truth: str, equal: Equal) -> bool:
    """Is ``answer`` right? Raises what ``equal`` raises, if it is asked."""
    if (sign := answer.strip(" $")) in _SIGNS:
        return sign == truth.strip(" $")
    answer, truth = plain(answer), plain(truth)
    if not key(answer) or not key(truth):
        return False
    if key(answer) == key(truth):
        return True
    if letters := choice_letters(truth):
        return letters in (choice_letters(answer), glued_letters(answer))
    if (letters := glued_letters(truth)) and choice_letters(answer) == letters:
        return True
    if truth.lower() in _YES_NO:
        words = _words(answer)
        return words[:1] == [truth.lower()] and not says_both(words)
    if clash(answer, truth):
        return False
    wanted = list(readings(truth))
    texts = [answer, *filter(None, [choice_text(answer)])]
    return any(_same(given, one, equal) for text in texts for given in readings(text) for one in wanted)


def _same(given: Shape, wanted: Shape, equal: Equal) -> bool:
    if isinstance(given, Several) and given.brackets == "≈":
        return any(_same(item, wanted, equal) for item in given.items)
    if isinstance(wanted, Several) and wanted.brackets == "≈":
        return any(_same(given, item, equal) for item in wanted.items)
    for kind, rule in _RULES:
        if isinstance(given, kind) or isinstance(wanted, kind):
            return rule(given, wanted, equal)
    return _same_expression(given, wanted, equal)


def _same_words(given: Shape, wanted: Shape, equal: Equal) -> bool:
    units = read_unit(given.text), read_unit(wanted.text)
    if None not in units:
        return units[0] == units[1]
    names = [text for text in (given.text, wanted.text) if len(text) < 3 and text.isupper()]  # AB is not ab
    return given.text == wanted.text if names else _words(given.text) == _words(wanted.text)


def _words(text: str) -> list[str]:
    words = "".join(each if each.isalnum() else " " for each in text.casefold()).split()
    return [word for word in words if word not in ("the", "a", "an")] or words


def _same_named(given: Shape, wanted: Shape, equal: Equal) -> bool:
    if isinstance(given, Relation) or isinstance(wanted, Relation):
        return _same_relations(given, wanted, equal)
    if not (isinstance(given, Named) and isinstance(wanted, Named)):
        return _same(*(shape.of if isinstance(shape, Named) else shape for shape in (given, wanted)), equal)
    if given.name == wanted.name:
        return _same(given.of, wanted.of, equal)
    if isinstance(given.of, Words) and isinstance(wanted.of, Words):  # AB = CD
        return (given.name, name_of(given.of.text)) == (name_of(wanted.of.text), wanted.name)
    has_letters = isinstance(given.of, Expression) and any(map(str.isalpha, given.of.text))
    return has_letters and _same_relations(given, wanted, equal)


def _same_relations(given: Shape, wanted: Shape, equal: Equal) -> bool:
    texts = [_relation_of(shape) for shape in (given, wanted)]
    if not all(texts):
        return False
    decided = same_relation(*texts)
    return not any(map(glued, texts)) and equal(*texts) if decided is None else decided


def _relation_of(shape: Shape) -> str:
    """An equation's or inequality's text, "" if ``shape`` is none."""
    if isinstance(shape, Named):
        return f"{shape.name}={shape.of.text}" if isinstance(shape.of, Expression) and not shape.of.unit else ""
    if isinstance(shape, Region):
        return shape.relation
    return shape.text if isinstance(shape, Relation) else ""


def _same_region(given: Shape, wanted: Shape, equal: Equal) -> bool:
    one, other = as_region(given), as_region(wanted)
    if one is None or other is None:
        return _same_relations(given, wanted, equal)
    if not one.variable or not other.variable or one.variable == other.variable:
        if _matched(one.intervals, other.intervals, lambda a, b: _same_interval(a, b, equal)):
            return True
    return _letters(one.relation) == _letters(other.relation) and _same_relations(one, other, equal)


def _letters(text: str) -> set[str]:
    return {each for each in text if each.isalpha()}


def _same_interval(given: Interval, wanted: Interval, equal: Equal) -> bool:
    ends = ((given.low, wanted.low), (given.high, wanted.high))
    if any((one is None) != (other is None) for one, other in ends):
        return False
    if (given.closed_low, given.closed_high) != (wanted.closed_low, wanted.closed_high):
        return False
    return all(one is None or _same(one, other, equal) for one, other in ends)


def _same_relation(given: Shape, wanted: Shape, equal: Equal) -> bool:
    if isinstance(given, Relation) and isinstance(wanted, Relation):
        return _same_relations(given, wanted, equal)
    if isinstance(given, Relation) and isinstance(wanted, Expression) and given.last is not None:
        return value(wanted.text) is not None and _same(given.last, wanted, equal)
    return False


def _same_several(given: Shape, wanted: Shape, equal: Equal) -> bool:
    one, other = (shape if isinstance(shape, Several) else Several((shape,), "{}") for shape in (given, wanted))
    names, brackets = [_names(one), _names(other)], [one.brackets, other.brackets]

    def alike(a: Shape, b: Shape) -> bool:
        return _same(a, b, equal)

    if names.count("each its own") == 1 or not set(brackets) <= set(_UNORDERED):  # order counts
        if "the same" in names or not any(names) and brackets[0] != brackets[1] and set(brackets) != {"", "()"}:
            return False
        return len(one.items) == len(other.items) and all(map(alike, one.items, other.items))
    if brackets == ["{}", "{}"]:
        return all(any(alike(a, b) for b in other.items) for a in one.items) and all(
            any(alike(a, b) for a in one.items) for b in other.items
        )
    return _matched(one.items, other.items, alike)


def _names(several: Several) -> str:
    """``x = 1, x = 2``: "the same"; ``x = 1, y = 2``: "each its own"; else ""."""
    names = {item.name for item in several.items if isinstance(item, Named)}
    if not names or not all(isinstance(item, Named) for item in several.items):
        return ""
    bare = {name.partition("_")[0] for name in names}
    return "each its own" if len(bare) == len(several.items) > 1 else "the same"


def _matched(given: Sequence, wanted: Sequence, alike: Callable) -> bool:
    """Is there one of ``given`` for each of ``wanted``, and none left?"""
    left = list(given)
    for one in wanted:
        found = next((index for index, other in enumerate(left) if alike(other, one)), None)
        if found is None:
            return False
        del left[found]
    return not left


def _same_expression(given: Expression, wanted: Expression, equal: Equal) -> bool:
    if given.unit is None and wanted.unit is None and value(wanted.text) is not None:
        amount, letter = given.text[:-1], given.text[-1:]
        if letter in tuple("mgshLNJWVAK") and value(amount) is not None:  # 12m for 12
            given = Expression(*split_unit(f"{amount} {letter}"))
    return any(
        _same_amount(given.text if times == "1" else f"({given.text})*{times}", wanted.text, equal)
        for times in _factors(given.unit, wanted.unit)
    )


def _factors(given: Unit | None, wanted: Unit | None) -> list[str]:
    """What the given number may be multiplied with before it is compared with the wanted one."""
    if given == wanted:
        return ["1"]
    if given is None or wanted is None:
        if PERCENT in (given, wanted):
            return ["1", "1/100" if given == PERCENT else "100"]
        if DEGREE in (given, wanted):
            return ["1", "π/180" if given == DEGREE else "180/π"]
        return ["1"]
    if given in MEANINGS or wanted in MEANINGS:
        meant = [MEANINGS.get(unit, (unit,)) for unit in (given, wanted)]
        return [factor for one in meant[0] for other in meant[1] for factor in _factors(one, other)]
    if {given, wanted} == {DEGREE, RADIAN}:
        return ["π/180" if given == DEGREE else "180/π"]
    return [str(Fraction(given.factor, wanted.factor))] if given.bases == wanted.bases else []


def _same_amount(given: str, wanted: str, equal: Equal) -> bool:
    if key(given) == key(wanted):
        return True
    bases = in_bases(given), in_bases(wanted)
    if any(bases):
        return (bases[0] or key(given)) == (bases[1] or key(wanted))
    parts = [[value(part) for part in text.split(":")] for text in (given, wanted)]
    if None not in parts[0] + parts[1]:
        return _same_ratio(*parts) or len(parts[0] + parts[1]) == 2 and (
            rounds_to(parts[1][0], given) or rounds_to(parts[0][0], wanted)
        )  # fmt: skip
    decided = same_formula(given, wanted)
    return not glued(given + ";" + wanted) and equal(given, wanted) if decided is None else decided


def _same_ratio(given: list, wanted: list) -> bool:
    """Two numbers, or the same ratio of several; a ratio of two is their quotient."""
    if len(given) == len(wanted) == 1:
        return same(given[0], wanted[0])
    given, wanted = ([*each, Fraction(1)] if len(each) == 1 else each for each in (given, wanted))
    return len(given) == len(wanted) and 0 not in given + wanted and proportional(given, wanted)


_RULES = (
    (Named, _same_named),
    (Region, _same_region),
    (Relation, _same_relation),
    (Several, _same_several),
    (Words, _same_words),
)
