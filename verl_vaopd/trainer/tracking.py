"""What trackers are told beside numbers: a few held-out problems at each validation, as pictures."""

import re
import shutil
from pathlib import Path

from omegaconf import OmegaConf

from verl_vaopd.diagnostics.heat_map import Problem, Reading, draw_problem, words
from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.trackers.tracker import Start
from verl_vaopd.trackers.trackers import HEAT_MAPS, TRACKERS, Trackers, names_of

PICTURES = 3
"""Problems of a validation that are drawn."""


def start_trackers(config, run_log: RunLog, step: int) -> tuple[Trackers, list[str]]:
    """The trackers that ``trainer.logger`` names, and what else it names, which is the host's.

    step: the run goes on from.
    """
    trainer = config.trainer
    names = names_of(trainer.logger)
    start = Start(
        output_dir=run_log.output_dir,
        project=trainer.project_name,
        name=trainer.experiment_name,
        settings=OmegaConf.to_container(config, resolve=True),
        step=None if trainer.val_only else step,
    )
    ours = [name for name in TRACKERS if name in names]
    records = run_log.read() if ours else []
    return Trackers(ours, start, records, run_log.say), [name for name in names if name not in TRACKERS]


def draw_heat_maps(run_log: RunLog, step: int) -> list[Path]:
    """Draw the first few problems with an image that were logged at the validation of ``step``. Returns the files."""
    folder = Path(run_log.output_dir)
    logged, target = folder / "rollouts" / f"validation_{step}.jsonl", folder / HEAT_MAPS / f"step_{step}"
    shutil.rmtree(target, ignore_errors=True)
    if not logged.exists():
        return []
    first = {row["id"]: row for row in reversed(read_json_lines(logged)) if row["image"] and "va" in row}
    drawn = []
    for name in sorted(first, key=str)[:PICTURES]:
        row = first[name]
        reading = Reading(f"step {step}", row["tokens"], row["va"], row["accuracy"] > 0.5)
        path = target / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', str(name))}.png"
        target.mkdir(parents=True, exist_ok=True)
        draw_problem(Problem(words(row["question"]), folder / row["image"], [reading])).savefig(path, dpi=120)
        drawn.append(path)
    return drawn
