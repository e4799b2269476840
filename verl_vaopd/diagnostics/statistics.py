"""The few statistics of the report."""

import numpy as np

# Student's t, two-sided 95%, by degrees of freedom; from 31 on the normal distribution's.
T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]
T95 += [2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]


def interval(values) -> tuple[float, float | None, float | None]:
    """Mean, standard error and half width of the 95% interval of the mean (Student's t); None each for one value."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), None, None
    error = float(values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()), error, error * (T95[len(values) - 2] if len(values) <= 31 else 1.960)


def paired(values: dict[int, float], baseline: dict[int, float]) -> list[float]:
    """Differences seed by seed, of the seeds that both have."""
    return [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]


def cumulative_share(va: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of tokens, share of all VA that these, the highest ones, carry), each [tokens + 1] from 0 to 1."""
    mass = np.concatenate([[0.0], np.sort(va)[::-1].cumsum()])
    return np.linspace(0, 1, len(mass)), mass / mass[-1]


def top_share(va: np.ndarray, fraction: float = 0.1) -> float:
    """Share of all VA in the ceil(fraction * tokens) highest tokens."""
    count = int(np.ceil(fraction * len(va) - 1e-9))
    return float(np.sort(va)[::-1][:count].sum() / va.sum())


def time_to_reach(hours: np.ndarray, accuracy: np.ndarray, target: float) -> float | None:
    """First time at which the curve, straight between validations, is at ``target``; None if it never is."""
    reached = np.flatnonzero(accuracy >= target)
    if not len(reached):
        return None
    at = reached[0]
    if at == 0:
        return float(hours[0])
    share = (target - accuracy[at - 1]) / (accuracy[at] - accuracy[at - 1])
    return float(hours[at - 1] + share * (hours[at] - hours[at - 1]))
