"""What a check returns, and how one that breaks is told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

OK, FAILED, NOT_CHECKED = "ok", "FAILED", "not checked here"


@dataclass(frozen=True)
class Check:
    """A figure and its limit. ``verdict``: ``ok``, ``FAILED`` or ``not checked here``; ``note`` says why."""

    name: str
    figure: float | None = None
    unit: str = ""
    limit: float | None = None
    verdict: str = OK
    note: str = ""


def at_most(name: str, figure: float, limit: float, unit: str = "", note: str = "") -> Check:
    """Ok where the figure is a number not above ``limit``; NaN fails."""
    figure = float(figure)
    return Check(name, figure, unit, limit, OK if figure <= limit else FAILED, note)


def not_checked(name: str, why: str) -> Check:
    return Check(name, verdict=NOT_CHECKED, note=why)


def guarded(name: str, run: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks that ``run`` makes. An exception is a check that failed, with its words; the ones before it stay."""
    done: list[Check] = []
    try:
        for check in run():
            done.append(check)
    except Exception as error:  # whatever breaks is what this command is to find
        done.append(Check(name, verdict=FAILED, note=f"{type(error).__name__}: {error}"[:500]))
    return done
