"""How long the answers of a step are: log-normal, or as measured."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.settings.values import is_whole

ALIKE = 0.5
"""Assumed, not measured: correlation of the logarithms of two siblings' lengths."""

TAIL = 4096 / 1200
"""Assumed where it is not said: the 99th percentile over the mean."""

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""Generator, prompts and rollouts of each to lengths [prompts, rollouts] int64, in tokens."""


@dataclass(frozen=True)
class LogNormal:
    """Lengths whose logarithms are normal; those above ``limit`` are cut there.

    Raises:
        ValueError: a mean that is not between 1 and p99, a p99 that no log-normal of this mean has, siblings' likeness
            outside [0, 1].
    """

    mean: float
    """Tokens, before the cut."""
    p99: float
    """Tokens that one answer of a hundred is above, before the cut."""
    limit: int
    alike: float = ALIKE

    def __post_init__(self):
        if not 1 <= self.mean <= self.p99:
            raise ValueError(f"--response-mean {self.mean:g} must be between 1 and --response-p99 {self.p99:g}")
        if 2 * math.log(self.p99 / self.mean) > NormalDist().inv_cdf(0.99) ** 2:
            raise ValueError(
                f"no log-normal of mean {self.mean:g} has a 99th percentile of {self.p99:g}: at most "
                f"{self.mean * math.exp(NormalDist().inv_cdf(0.99) ** 2 / 2):.0f}"
            )
        if not 0 <= self.alike <= 1:
            raise ValueError(f"siblings' likeness must be in [0, 1], got {self.alike}")

    @property
    def sigma(self) -> float:
        """Spread s of the logarithms: ln(p99 / mean) = z s - s^2 / 2, z = 2.33 of the normal; the smaller root."""
        z = NormalDist().inv_cdf(0.99)
        return z - math.sqrt(z * z - 2 * math.log(self.p99 / self.mean))

    @property
    def longest(self) -> float:
        """Tokens that one answer of 30,000 is above, or the limit."""
        return min(self.limit, self.mean * math.exp(4 * self.sigma - self.sigma**2 / 2))

    def __call__(self, generator: np.random.Generator, prompts: int, rollouts: int) -> np.ndarray:
        shared, own = generator.standard_normal((prompts, 1)), generator.standard_normal((prompts, rollouts))
        normal = math.sqrt(self.alike) * shared + math.sqrt(1 - self.alike) * own
        lengths = self.mean * np.exp(self.sigma * normal - self.sigma**2 / 2)
        return np.clip(np.rint(lengths), 1, self.limit).astype(np.int64)

    def __str__(self) -> str:
        return f"log-normal, mean {self.mean:g}, 99th percentile {self.p99:g}, cut at {self.limit:,}"


@dataclass(frozen=True)
class Measured:
    """Lengths drawn from those measured, siblings of one prompt where ``groups`` holds them.

    groups: one tuple of lengths per prompt, or tuples of one length.
    """

    groups: tuple[tuple[int, ...], ...]
    source: str

    def __call__(self, generator: np.random.Generator, prompts: int, rollouts: int) -> np.ndarray:
        chosen = generator.integers(len(self.groups), size=(prompts, 1))
        if max(map(len, self.groups)) == 1:
            chosen = generator.integers(len(self.groups), size=(prompts, rollouts))
        return np.array(
            [[generator.choice(self.groups[group]) for group in np.broadcast_to(row, rollouts)] for row in chosen]
        )

    @property
    def mean(self) -> float:
        return float(np.mean(np.concatenate(self.groups)))

    @property
    def longest(self) -> int:
        return max(map(max, self.groups))

    def __str__(self) -> str:
        lengths = np.concatenate(self.groups)
        return f"{len(lengths):,} measured ({self.source}), mean {lengths.mean():.0f}, longest {self.longest:,}"


def measured(path: str | Path, limit: int | None = None) -> Measured:
    """Lengths of a file or a run.

    Args:
        path: a JSON file with a list of lengths, or a list of lists: one of siblings per prompt; or the folder of a
            run, whose ``rollouts/step_*.jsonl`` are read.
        limit: tokens at which longer ones are cut, which the source then says.
    Raises:
        ValueError: something else, no length, or one that is no whole number of at least 1.
    """
    path = Path(path)
    if path.is_dir():
        groups = [lengths for file in sorted(path.glob("rollouts/step_*.jsonl")) for lengths in _of_prompts(file)]
        if not groups:
            raise ValueError(
                f"--lengths {path}: no rollouts/step_*.jsonl there (vaopd.log_rollout_prompts writes them)"
            )
    else:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"--lengths {path} cannot be read: {error}") from error
        groups = [each if isinstance(each, list) else [each] for each in found] if isinstance(found, list) else []
    lengths = [length for group in groups for length in group]
    wrong = [length for length in lengths if not is_whole(length) or length < 1]
    if wrong or not groups or not all(groups):
        raise ValueError(
            f"--lengths {path}: must be a list of lengths in tokens, or of lists of them, one a prompt"
            + (f"; got {wrong[0]!r}" if wrong else "")
        )
    source, most = path.name, limit or max(lengths)
    if cut := sum(length > most for length in lengths):
        source += f", {cut:,} cut at {most:,}"
    return Measured(tuple(tuple(min(length, most) for length in group) for group in groups), source)


def _of_prompts(file: Path) -> list[list[int]]:
    """Lengths of a step's logged rollouts, siblings together.

    Raises:
        ValueError: a row that no run has logged.
    """
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(read_json_lines(file), start=1):
        lacks = {"id", "question", "token_ids"} - (row.keys() if isinstance(row, dict) else set())
        if lacks or not isinstance(row["token_ids"], list):
            raise ValueError(
                f"--lengths {file}, line {number}: must be a logged rollout, with id, question and a list token_ids"
            )
        groups.setdefault(f"{row['id']} {row['question']}", []).append(len(row["token_ids"]))
    return list(groups.values())
