"""What the number of training rows says of a run's steps, epochs and batches."""

import math

from verl_vaopd.settings.compose import planned_steps


def check_steps(config, rows: int) -> None:
    """Refuse training data of less than one batch, and all prompts at once; let the epochs follow from the steps.

    verl's loop ends with the last of ``trainer.total_epochs`` even where ``trainer.total_training_steps`` is more: then
    the epochs are raised to what the steps take.

    Args:
        rows: of ``data.train_files``.
    Raises:
        ValueError: names the setting.
    """
    trainer, data = config.trainer, config.data
    if trainer.val_only:
        return
    rows = min(rows, data.train_max_samples) if data.train_max_samples > 0 else rows
    if rows < data.train_batch_size:
        raise ValueError(
            f"data.train_batch_size={data.train_batch_size}: must be {rows} or less, the rows of "
            "data.train_files (data.train_max_samples)"
        )
    steps, ahead = planned_steps(config, rows), trainer.v1.colocate_async.num_warmup_batches
    if trainer.v1.trainer_mode != "sync" and ahead >= steps:
        raise ValueError(
            f"trainer.v1.colocate_async.num_warmup_batches={ahead}: must be below the run's {steps} steps: no prompt "
            "would be left to begin after the first"
        )
    trainer.total_epochs = max(trainer.total_epochs, math.ceil(steps / (rows // data.train_batch_size)))


def said_of_epochs(config, asked: int) -> list[str]:
    """A line for the person who starts the run, if :func:`check_steps` raised the epochs that were ``asked`` for."""
    epochs, steps = config.trainer.total_epochs, config.trainer.total_training_steps
    if epochs == asked:
        return []
    return [f"trainer.total_training_steps={steps} takes {epochs} epochs: trainer.total_epochs={asked} follows it"]
