"""Which steps can give the student that a run keeps: those that are validated and saved."""

from math import lcm


def said_of_best(config) -> list[str]:
    """A line for the person who starts the run, if not every validated step is saved too."""
    trainer = config.trainer
    test, save, steps = trainer.test_freq, trainer.save_freq, trainer.total_training_steps
    if trainer.val_only or test < 1 or (save > 0 and test % save == 0):
        return []
    if save < 1:
        return [f"trainer.save_freq={save}: no checkpoint is written, so no student is kept"]
    meet = lcm(test, save)
    where = f"every {meet} steps and at the last" if steps is None or meet < steps else "at the last step only"
    return [
        f"trainer.test_freq={test}, trainer.save_freq={save}: validated and saved {where}, the best of these is kept; "
        f"with trainer.save_freq={test} every validated step counts"
    ]
