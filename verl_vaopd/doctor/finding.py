"""What a check found, as a line."""

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line. ``mend`` is None where all is well."""

    name: str
    found: str
    mend: str | None = None

    def __str__(self):
        line = f"{'ok  ' if self.mend is None else 'FAIL'}  {self.name:<15} {self.found}"
        return line if self.mend is None else f"{line}\n      {'':<15} mend: {self.mend}"
