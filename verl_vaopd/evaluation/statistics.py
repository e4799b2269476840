"""avg@k, its spread over passes, and bootstrap intervals that keep a question's samples, and groups, together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verl_vaopd.evaluation.parts import Part

DRAWS = 2000
LEVEL = 95


@dataclass(frozen=True)
class Score:
    """A score in percent: avg@k, each pass's own, and bootstrap draws of avg@k."""

    value: float
    per_pass: np.ndarray
    draws: np.ndarray

    @property
    def std(self) -> float | None:
        """Standard deviation over passes; None with one pass."""
        return float(self.per_pass.std(ddof=1)) if len(self.per_pass) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """The middle ``LEVEL`` percent of the draws."""
        return interval(self.draws)

    def record(self) -> dict:
        """JSON form, without the draws."""
        return {
            "score": self.value,
            "interval": list(self.interval),
            "std": self.std,
            "passes": [float(each) for each in self.per_pass],
        }


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle ``LEVEL`` percent of bootstrap draws."""
    low, high = np.nanpercentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def bootstrap(parts: Sequence[Part], draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """[draws]: the mean of the parts, in percent, over groups drawn with replacement; NaN where a part has no unit.

    A group comes with all its units and all passes of each. The parts share the draw. With the same seed and the same
    groups the same groups are drawn, whatever the values: differences of two models' draws are paired.
    """
    names = sorted({group for part in parts for group in part.groups})
    column = {group: n for n, group in enumerate(names)}
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    means = []
    for part in parts:
        columns = [column[group] for group in part.groups]
        totals = np.bincount(columns, weights=part.values.mean(axis=0), minlength=len(names))
        units = np.bincount(columns, minlength=len(names))
        drawn = (counts @ units).astype(float)
        drawn[drawn == 0] = np.nan  # none of a part's groups in this draw
        means.append(100 * (counts @ totals) / drawn)
    return np.mean(means, axis=0)


def score(parts: Sequence[Part]) -> Score:
    """The mean of the parts, pass by pass, then over passes.

    Raises:
        ValueError: no part, or a part without units.
    """
    if not parts or any(part.values.shape[1] == 0 for part in parts):
        raise ValueError("nothing to score")
    per_pass = np.mean([part.per_pass() for part in parts], axis=0)
    return Score(float(per_pass.mean()), per_pass, bootstrap(parts))


def average(scores: Sequence[Score]) -> Score:
    """Unweighted mean of benchmarks; their questions are drawn independently."""
    draws = []
    for n, each in enumerate(scores):
        order = np.random.default_rng(n).permutation(len(each.draws))
        draws.append(each.draws[order])
    return Score(
        float(np.mean([each.value for each in scores])),
        np.mean([each.per_pass for each in scores], axis=0),
        np.mean(draws, axis=0),
    )
