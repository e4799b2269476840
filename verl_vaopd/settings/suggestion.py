"""A misspelt setting: which one was meant?"""

import difflib
import re


def did_you_mean(message: str, overrides: list[str], names: list[str]) -> str:
    """``; did you mean ...?`` for the setting that hydra's ``message`` is about, or nothing.

    Args:
        overrides: the arguments; ``names``: all settings there are, with dots.
    """
    asked = [re.split("[=]", override.lstrip("+~"), maxsplit=1)[0] for override in overrides]
    unknown = [name for name in asked if name in message and name not in names]
    for name in unknown:
        # Of all settings the most alike; else one of the same last word, whose section was wrong.
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.8)
        close = close or [each for each in names if each.rpartition(".")[2] == name.rpartition(".")[2]][:3]
        if close:
            return f"\nDid you mean {' or '.join(close)}?"
    return ""


def setting_names(config, prefix: str = "") -> list[str]:
    """Every setting of a config, sections too, with dots."""
    names = []
    for key in config:
        name = f"{prefix}{key}"
        names.append(name)
        section = config._get_node(key)
        if hasattr(section, "keys") and not section._is_none() and not section._is_missing():
            names += setting_names(section, f"{name}.")
    return names
