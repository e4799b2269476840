"""Rates of each arm's own: the one at which it gains most, on figures and with a seed that count for nothing else."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.runlog.study_log import CHOSEN, DONE, UPDATES
from verl_vaopd.study.arms import Run

FIGURES, SEED = "test", 101


def trials(runs: Sequence[Run], rates: Sequence[float]) -> list[Run]:
    """The runs that choose: each rate with each arm whose cell's rate reads ``own``."""
    wanted = [
        replace(run, cell=replace(run.cell, rate=rate), seed=SEED, figures=FIGURES)
        for run in runs
        if run.cell.rate is None
        for rate in rates
    ]
    return list(dict.fromkeys(wanted))


def gain(folder: Path) -> float:
    """Fall of the held-out loss over a run that is done, nats; minus infinity where it is no number at the end."""
    nll = [record["nll"] for record in read_json_lines(folder / UPDATES) if "nll" in record]
    return nll[0] - nll[-1] if math.isfinite(nll[-1]) else -math.inf


def at_its_own_rate(run: Run, rates: Sequence[float], output: Path) -> tuple[Run, dict[float, float]]:
    """The run at the rate at which its arm gained most, the lower of two alike; and rate -> gain.

    A run whose cell has a rate is returned as it is, with no gains.
    """
    if run.cell.rate is not None:
        return run, {}
    gains = {trial.cell.rate: gain(output / trial.name) for trial in trials([run], sorted(rates))}
    return replace(run, cell=replace(run.cell, rate=max(gains, key=gains.get))), gains


def mark(run: Run, gains: dict[float, float], output: Path) -> None:
    """Say in a done run's folder that its rate was chosen, and from what; one of another rate says so no more."""
    folder = output / run.name
    if not gains or not (folder / DONE).exists():
        return
    regime, words = run.cell.regime, run.cell.words
    for other in (output / run.figures).glob(f"{regime}-*-{words}/{run.arm}/seed_{run.seed}/{CHOSEN}"):
        if other.parent != folder:
            other.unlink(missing_ok=True)
    told = {"figures": FIGURES, "seed": SEED, "gains": [[rate, gains[rate]] for rate in sorted(gains)]}
    (folder / CHOSEN).write_text(json.dumps(told))
