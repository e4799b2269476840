"""Settings that a run may not change when it goes on: prompts that are on their way in its checkpoint hang on them."""

import json
import math
import os
from pathlib import Path

from omegaconf import OmegaConf

from verl_vaopd.settings.compose import planned_steps

BATCH, AHEAD = "data.train_batch_size", "trainer.v1.colocate_async.num_warmup_batches"
FILE = "partial_rollouts.json"
PROMPTS = "prompts"
"""In a checkpoint of ``colocate_async``: the file, with the two settings and how many prompts the checkpoint holds."""
MEND = "set that, or vaopd.output_dir (RUN_DIR of a recipe) to a new folder"


def write_kept_settings(folder: str, config, prompts: int) -> None:
    """Leave :data:`FILE` in a checkpoint's folder, if the mode has prompts on their way: ``prompts`` of them."""
    if config.trainer.v1.trainer_mode != "sync":
        kept = {name: OmegaConf.select(config, name) for name in (BATCH, AHEAD)}
        with open(os.path.join(folder, FILE), "w") as f:
            json.dump({**kept, PROMPTS: prompts}, f, indent=1)


def check_kept_settings(checkpoint: Path, config) -> None:
    """Refuse to go on with settings under which prompts on their way would be lost, or stay on their way to the end.

    Raises:
        ValueError: names the checkpoint, the setting, and what it was or must be.
    """
    mode = config.trainer.v1.trainer_mode
    was = "colocate_async" if (checkpoint / "transfer_queue").exists() else "sync"
    if mode != was:
        raise ValueError(f"trainer.v1.trainer_mode={mode}: {checkpoint} is of a run with {was}: {MEND}")
    if mode == "sync":
        return
    if not (checkpoint / FILE).exists():
        raise ValueError(
            f"{checkpoint} holds no {FILE}, which says how its prompts were begun: set vaopd.output_dir "
            "(RUN_DIR of a recipe) to a new folder"
        )
    kept = json.loads((checkpoint / FILE).read_text())
    batch, ahead = (OmegaConf.select(config, name) for name in (BATCH, AHEAD))
    if batch != kept[BATCH]:
        raise ValueError(
            f"{BATCH}={batch}: {checkpoint} is of a run with {kept[BATCH]}, and holds prompts by such batches: {MEND}"
        )
    if ahead < kept[AHEAD]:
        raise ValueError(f"{AHEAD}={ahead}: {checkpoint} has {kept[AHEAD]} ahead, which would stay: set that or more")
    if config.trainer.val_only:
        return
    held = kept.get(PROMPTS, 0)  # not said by earlier versions
    done, steps = int(checkpoint.name.removeprefix("global_step_")), planned_steps(config)
    least = done + math.ceil(held / batch)
    if held and steps < least:
        raise ValueError(
            f"a run of {steps} steps would end with prompts untrained: {checkpoint} holds {held}, which take the steps "
            f"to {least}: set trainer.total_training_steps={least} or more, or vaopd.output_dir (RUN_DIR of a recipe) "
            "to a new folder"
        )
