"""Whole numbers written as words, English below a billion, Chinese below ten thousand."""

import re

_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ENGLISH = {name: number for number, name in enumerate(_BELOW_TWENTY)}
_ENGLISH |= {name: number for number, name in zip(range(20, 100, 10), _TENS, strict=True)}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6}
_WORD, _FIRST = (rf"(?:{'|'.join(names)})(?![a-z])" for names in ([*_ENGLISH, *_LARGE], _ENGLISH))
_WORDS = re.compile(rf"{_FIRST}(?:(?:\s*-\s*|\s+and\s+|\s+){_WORD})*", re.IGNORECASE)
_DIGITS = {each: number for number, digits in enumerate("零〇 一 二两 三 四 五 六 七 八 九".split()) for each in digits}
_PLACES = {"十": 10, "百": 100, "千": 1000}
_DIGIT = f"[{''.join(_DIGITS)}]"
_CHINESE = re.compile(rf"(?![百千])(?:{_DIGIT}?[千百十]零?|{_DIGIT}(?!{_DIGIT}|[千百十]))+")


def leading_number(text: str) -> tuple[int, str] | None:
    """The number that ``text`` begins with in words, and what stands behind it; None if it begins with none."""
    if match := _WORDS.match(text):
        number = _english(re.findall("[a-z]+", match[0].lower()))
    elif match := _CHINESE.match(text):
        number = _chinese(match[0])
    else:
        return None
    return None if number is None else (number, text[match.end() :].strip())


def _english(words: list[str]) -> int | None:
    """None for words that do not follow each other in a number: ``one two``."""
    total, part, room = 0, 0, 10**9
    for before, word in zip(["", *words], words, strict=False):
        if word == "and":
            if before not in _LARGE:
                return None
            continue
        if word == "hundred":
            if not 0 < part < 10:
                return None
            part, room = part * 100, 100
        elif word in _LARGE:
            total, part, room = total + part * _LARGE[word], 0, 10**9
        else:
            number = _ENGLISH[word]
            if number >= room or number == 0 and len(words) > 1:
                return None
            part, room = part + number, 10 if number >= 20 else 0
    return total + part


def _chinese(text: str) -> int:
    total, digit = 0, None
    for each in text:
        if each in _PLACES:
            total, digit = total + (1 if digit is None else digit) * _PLACES[each], None
        elif each not in "零〇":
            digit = _DIGITS[each]
    return total + (digit or 0)
