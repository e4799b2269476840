"""Kinds of values that a setting can have: whether a value is one, and what to call it."""

from verl_vaopd.settings.values import is_number, is_whole


def whole(least: int):
    return lambda value: is_whole(value) and least <= value < 2**63, f"a whole number, {least} or more"


def or_null(kind):
    return lambda value: value is None or kind[0](value), f"null, or {kind[1]}"


def one_of(*known):
    return lambda value: not isinstance(value, dict | list) and value in known, f"one of {', '.join(map(str, known))}"


COUNT, SEED, WHOLE_OR_NONE = whole(1), whole(0), or_null(whole(1))
EVERY = lambda value: value == -1 or COUNT[0](value), "a whole number, 1 or more, or -1: never"
LIMIT = lambda value: value == -1 or COUNT[0](value), "a whole number, 1 or more, or -1: no limit"
SWITCH = lambda value: isinstance(value, bool), "true or false"
POSITIVE = lambda value: is_number(value) and value > 0, "a positive number"
NOT_NEGATIVE = lambda value: is_number(value) and value >= 0, "a number, 0 or more"
SHARE = lambda value: is_number(value) and 0 < value <= 1, "a number in (0, 1]"
RATIO = lambda value: is_number(value) and 0 <= value <= 1, "a number in [0, 1]"
TEXT = lambda value: isinstance(value, str) and value != "", "text"
NOTHING = lambda value: value is None, "null: prompts would not be those that were checked"
SECTION = lambda value: isinstance(value, dict), "a section of settings"
MODULES = (
    lambda value: TEXT[0](value) or (isinstance(value, list) and value != [] and all(map(TEXT[0], value))),
    "a regular expression for whole names of layers, or a list of names' ends",
)
BETAS = (
    lambda value: isinstance(value, list) and len(value) == 2 and all(is_number(b) and 0 <= b < 1 for b in value),
    "two numbers in [0, 1)",
)
NAMES = (
    lambda value: value is None or TEXT[0](value) or (isinstance(value, list) and all(map(TEXT[0], value))),
    "a name, or a list of names",
)
DTYPE = one_of("fp32", "float32", "bf16", "bfloat16", "fp16", "float16")


def contents(*known):
    """A list of ``known``, of which the first two are in it whatever is said."""

    def possible(value) -> bool:
        listed = isinstance(value, list) and all(isinstance(each, str) and each in known for each in value)
        return listed and len(set(value)) == len(value) and set(known[:2]) <= set(value)

    return possible, f"a list of {', '.join(known)}, the first two always in it"
