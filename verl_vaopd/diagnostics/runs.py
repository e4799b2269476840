"""Runs as the report sees them: read from their folders, grouped by what they ran, one member a seed."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from verl_vaopd.diagnostics.labels import label_of, order_of
from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.runlog.run_log import read_records

SAME = (
    "actor_rollout_ref.model.path",
    "vaopd.teacher.path",
    "data.train_files",
    "data.val_files",
    "data.train_batch_size",
)
SAME += ("actor_rollout_ref.actor.optim.lr", "trainer.total_training_steps", "data.val_max_samples")


class MissingRuns(Exception):
    """The runs at hand do not hold what a figure shows; the message says which run would."""


@dataclass
class Run:
    """One run: its config, and its validations as columns.

    columns: name -> [validations]; ``step``, ``accuracy`` in [0, 1], ``hours`` of training (sampling, scoring and
    updates; no start-up, validation or checkpoint), where VA was scored ``va`` (nats) and ``top10_share``, and with
    partial rollouts ``older``, the share of tokens of older weights so far. end: the last step that was done, validated
    or not.
    """

    path: Path
    config: dict
    label: str
    kind: str
    seed: int
    columns: dict[str, np.ndarray]
    end: int

    def rollouts(self, step: int) -> list[dict]:
        """The held-out rollouts logged at the validation of ``step``."""
        path = self.path / "rollouts" / f"validation_{step}.jsonl"
        return read_json_lines(path) if path.exists() else []

    @property
    def last_step(self) -> int:
        return int(self.columns["step"][-1])


@dataclass
class Group:
    """Runs of one label, by seed."""

    label: str
    kind: str
    runs: list[Run] = field(default_factory=list)

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps [S] at which every seed was validated, values [seeds, S]); empty where a seed lacks the column."""
        if any(name not in run.columns for run in self.runs):
            return np.array([]), np.empty((len(self.runs), 0))
        steps = sorted(set.intersection(*(set(run.columns["step"].tolist()) for run in self.runs)))
        values = [run.columns[name][np.isin(run.columns["step"], steps)] for run in self.runs]
        return np.array(steps), np.array(values)

    @property
    def has_curve(self) -> bool:
        """Whether there is a step at which every seed was validated."""
        return len(self.curve("accuracy")[0]) > 0

    def final(self, name: str) -> dict[int, float]:
        """Seed -> value at the last validation."""
        return {run.seed: float(run.columns[name][-1]) for run in self.runs if name in run.columns}


def read_run(path: Path) -> Run:
    """Read ``config.yaml`` and ``metrics.jsonl`` of a run's folder.

    Raises:
        ValueError: names the folder, what it lacks and what would write it.
    """
    for name in ("config.yaml", "metrics.jsonl"):
        if not (path / name).exists():
            raise ValueError(f"{path} is no folder of a run: it holds no {name} (`verl-vaopd train` writes it)")
    config = _read_config(path / "config.yaml")
    try:
        (label, kind), seed = label_of(config), config["data"]["seed"]
    except KeyError as missing:
        raise ValueError(
            f"{path}/config.yaml is of an earlier version: it has no {missing} to read; run it again"
        ) from missing
    seconds, older, validations = 0.0, {}, {}
    records = read_records(path / "metrics.jsonl")
    for record in records:
        seconds += record.get("time/step", 0.0) - record.get("time/save_checkpoint", 0.0)
        if "staleness/tokens" in record:
            older[record["step"]] = record["staleness/tokens"]
        # A resumed run validates its first step again: the later one counts. What is not finite was written as null.
        if record.get("val/accuracy") is not None:
            row = {"step": record["step"], "hours": seconds / 3600, **_measured(record)}
            validations[record["step"]] = row | ({"older": float(np.mean([*older.values()]))} if older else {})
    if not validations:
        raise ValueError(f"{path} was never validated: set trainer.val_before_train=true or trainer.test_freq")
    rows = [validations[step] for step in sorted(validations)]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}
    if older:
        columns["older"] = np.array([row.get("older", 0.0) for row in rows])  # none before the first step
    return Run(path, config, label, kind, seed, columns, max(record["step"] for record in records))


def _read_config(path: Path) -> dict:
    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({told}): mend it, or leave this run out") from error
    if not isinstance(config, dict) or not isinstance(config.get("vaopd"), dict):
        raise ValueError(f"{path} is no config of a run: it has no section vaopd; leave this run out, or run it again")
    if "mask_tokens" not in config["vaopd"]:
        raise ValueError(f"{path} is of an earlier version: it has no vaopd.mask_tokens; run it again")
    return config


def _measured(record: dict) -> dict[str, float]:
    names = {"val/accuracy": "accuracy", "val/va/mean": "va", "val/va/top10_share": "top10_share"}
    return {short: record[name] for name, short in names.items() if record.get(name) is not None}


def group_runs(runs: list[Run]) -> list[Group]:
    """Runs of equal label together, by seed; groups in the order of the paper's tables.

    Raises:
        ValueError: two runs of one label with the same seed.
    """
    groups: dict[str, Group] = {}
    for run in runs:
        group = groups.setdefault(run.label, Group(run.label, run.kind))
        for other in group.runs:
            if other.seed == run.seed:
                raise ValueError(
                    f"{other.path} and {run.path} are both {run.label!r} with data.seed={run.seed}: name one of them"
                )
        group.runs = sorted([*group.runs, run], key=lambda each: each.seed)
    return sorted(groups.values(), key=lambda group: order_of(group.label))


def differences(runs: list[Run]) -> list[str]:
    """Settings that should be the same in runs that are compared, and are not."""
    values = {}
    for name in SAME:
        for run in runs:
            value = run.config
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            values.setdefault(name, []).append(value)
    return [name for name, found in values.items() if any(value != found[0] for value in found)]
