"""Runs of the study of dilution, read from their folders; what is damaged there is refused by its file's name."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from verl_vaopd.diagnostics.dilution import TRAINED, StudyRun
from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.runlog.study_log import CHOSEN, DONE, SETTINGS, UPDATES, check_log, check_settings


def is_study(paths: Sequence[Path]) -> bool:
    """Whether these are runs of the study.

    Raises:
        ValueError: some are, and some are not.
    """
    of_study = [(path / SETTINGS).exists() for path in paths]
    if any(of_study) and not all(of_study):
        one, other = paths[of_study.index(True)], paths[of_study.index(False)]
        raise ValueError(f"{one} is of the dilution study, {other} is not: give runs of the study alone")
    return all(of_study)


def read_study(path: Path) -> StudyRun:
    """Raises:
    ValueError: a run that has not ended, or one that lacks what an ended run has.
    """
    if not (path / DONE).exists():
        raise ValueError(f"{path} is of a run that has not ended: call recipes/dilution_study.sh again, it goes on")
    again = f"remove {path}, and call recipes/dilution_study.sh again"
    try:
        check_settings(settings := json.loads((path / SETTINGS).read_text()))
    except ValueError as error:
        raise ValueError(f"{path / SETTINGS} is damaged ({error}): {again}") from error
    if (regime := settings["cell"]["regime"]) not in TRAINED:
        raise ValueError(f"{path / SETTINGS} says regime {regime!r}; this version knows {', '.join(TRAINED)}: {again}")
    if not (path / UPDATES).exists():
        raise ValueError(f"{path} holds no {UPDATES}: {again}")
    records = read_json_lines(path / UPDATES)
    try:
        check_log(records, settings["updates"])
    except ValueError as error:
        raise ValueError(f"{path / UPDATES} {error}: {again}") from error
    return StudyRun(path, settings, records, read_tried(path / CHOSEN, settings["cell"]["rate"]))


def read_tried(path: Path, own: float) -> dict[float, float]:
    """Rate -> gain on the figures that chose the run's rate, ``own``; nothing where it was not chosen.

    Raises:
        ValueError: the file is damaged, or is of other rates.
    """
    if not path.exists():
        return {}
    try:
        tried = {float(rate): float(gain) for rate, gain in json.loads(path.read_text())["gains"]}
        if own not in tried:
            raise ValueError(f"it lacks {own:g}, the rate of the run")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): remove it, and call recipes/dilution_study.sh again") from error
    return tried


def without_lost(runs: list[StudyRun]) -> tuple[list[StudyRun], list[str]]:
    """(runs whose gain is a number, a sentence that names each other one).

    Raises:
        ValueError: none is left.
    """
    kept = [run for run in runs if math.isfinite(run.gain)]
    notes = [
        f"Left out: {run.path} ({run.title}, seed {run.settings['seed']}): its held-out loss went from "
        f"{run.column('nll')[0]:g} to {run.column('nll')[-1]:g} nats, which is no gain."
        for run in runs
        if run not in kept
    ]
    if not kept:
        raise ValueError("no run is left. " + " ".join(notes))
    return kept, notes
