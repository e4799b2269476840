"""What kinds of values a setting can have."""

import math


def is_number(value) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def refuse(condition: bool, setting: str, value, wanted: str) -> None:
    """Raise the ValueError of a wrong setting of section ``vaopd`` if ``condition`` holds."""
    if condition:
        raise ValueError(f"vaopd.{setting}={value!r}: {wanted}")
