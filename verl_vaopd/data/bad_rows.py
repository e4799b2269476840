"""Rows that cannot be used: what is wrong with each, and how they are counted and shown."""

from collections import Counter
from dataclasses import dataclass

SHOWN = 20


class SourceError(Exception):
    """The source is missing or not laid out as on the hub (exit code 2)."""


class ConversionError(Exception):
    """Nothing was written; the message says why (exit code 1)."""


@dataclass(frozen=True)
class BadRow:
    """One finding. ``row`` counts from 0; ``reason`` is a word to count by, ``problem`` and ``mend`` are sentences."""

    file: str
    row: int
    id: str | None
    field: str
    reason: str
    problem: str
    mend: str

    def __str__(self):
        return f"{self.file}, row {self.row} (id {self.id!r}), {self.field}: {self.problem}. Mend: {self.mend}."


class RowError(ValueError):
    """What is wrong with a field of the row at hand; ``reason``, ``problem`` and ``mend`` as in BadRow."""

    def __init__(self, field: str, reason: str, problem: str, mend: str):
        super().__init__(f"{field}: {problem}")
        self.field, self.reason, self.problem, self.mend = field, reason, problem, mend

    def __reduce__(self):  # between processes
        return RowError, (self.field, self.reason, self.problem, self.mend)

    def at(self, file: str, row: int, row_id: str | None) -> BadRow:
        return BadRow(file, row, row_id, self.field, self.reason, self.problem, self.mend)


def by_reason(findings: list[BadRow]) -> dict[str, dict]:
    """reason -> count and ids, for the manifest."""
    reasons = sorted({one.reason for one in findings})
    ids = {reason: [one.id for one in findings if one.reason == reason] for reason in reasons}
    return {reason: {"count": len(ids[reason]), "ids": ids[reason]} for reason in reasons}


def report(findings: list[BadRow], heading: str) -> str:
    """The first 20 findings, the total, and the count per reason."""
    counts = Counter(one.reason for one in findings)
    lines = [f"{len(findings)} {heading} ({', '.join(f'{reason}: {n}' for reason, n in sorted(counts.items()))})"]
    lines += [f"  {one}" for one in findings[:SHOWN]]
    if len(findings) > SHOWN:
        lines.append(f"  ... and {len(findings) - SHOWN} more")
    return "\n".join(lines)
