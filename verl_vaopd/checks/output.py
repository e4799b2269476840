"""Can the run's folder be written, and does its disk hold the checkpoints? Asked before anything is loaded."""

import math
import os
import shutil
import tempfile
from pathlib import Path


def check_output(config, steps: int) -> None:
    """Write a probe where results and checkpoints go, and compare free space with what the checkpoints need.

    Args:
        steps: planned optimiser steps.
    Raises:
        ValueError: names the setting, the folder, and what to mend.
    """
    from verl_vaopd.checks.models import model_type_of
    from verl_vaopd.costs.shapes import FP32, SHAPES
    from verl_vaopd.model.head import local_checkpoint
    from verl_vaopd.model.safe_weights import count_weights
    from verl_vaopd.planning.checkpoints import checkpoint_bytes, kept_at_most
    from verl_vaopd.planning.recipe import learns_of, model_shape

    trainer = config.trainer
    folders = {"vaopd.output_dir": config.vaopd.output_dir, "trainer.default_local_dir": trainer.default_local_dir}
    for name, folder in folders.items():
        _probe(name, folder)
    if trainer.val_only:
        return
    saves = math.ceil(steps / trainer.save_freq) if trainer.save_freq > 0 else 1  # one when asked to stop
    kept = kept_at_most(saves, trainer.max_actor_ckpt_to_keep)
    path = config.actor_rollout_ref.model.path
    if model_type_of(path) in SHAPES:
        student = model_shape(path)
        each = checkpoint_bytes(student, learns_of(config, student))
    else:  # a family that has no plan: as if all of it were trained
        each = 4 * FP32 * count_weights(local_checkpoint(path))
    there = Path(trainer.default_local_dir)
    held = sum(file.stat().st_size for file in there.rglob("*") if file.is_file())
    free = shutil.disk_usage(existing_folder(there)).free
    if free + held < (needed := (kept + 1) * each):
        raise ValueError(
            f"trainer.default_local_dir={there}: its disk has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are "
            f"needed: {kept} checkpoints of {each / 1e9:.2f} GB (trainer.max_actor_ckpt_to_keep, and the best) and one "
            "more while it is written. Free some, lower trainer.max_actor_ckpt_to_keep, or put the run elsewhere "
            "(vaopd.output_dir)"
        )


def existing_folder(path: str | Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return path


def _probe(name: str, folder: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=existing_folder(folder)) as probe:
            probe.write(bytes(2**20))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise ValueError(f"{name}={folder}: cannot be written ({error}): name a folder that can") from error
