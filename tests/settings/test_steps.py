"""Steps, epochs and batches against the rows there are."""

import pytest

from verl_vaopd.settings.compose import compose, planned_steps
from verl_vaopd.settings.steps import check_steps, said_of_epochs

REQUIRED = ["actor_rollout_ref.model.path=s", "vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]


def config(*overrides):
    return compose("tiny_cpu", [*REQUIRED, *overrides])


def test_less_than_a_batch_of_rows_is_refused():
    few = config()
    check_steps(few, 16)
    with pytest.raises(ValueError, match="data.train_batch_size=16: must be 15 or less"):
        check_steps(few, 15)
    few.data.train_max_samples = 4
    with pytest.raises(ValueError, match="must be 4 or less"):
        check_steps(few, 1000)
    few.trainer.val_only = True
    check_steps(few, 1)


def test_epochs_follow_from_the_steps():
    # 40 rows are 2 batches of 16 an epoch: 7 steps take 4 epochs, and verl's loop would end with the first
    seven = config("trainer.total_training_steps=7", "trainer.total_epochs=1")
    check_steps(seven, 40)
    assert seven.trainer.total_epochs == 4 and planned_steps(seven) == 7
    assert said_of_epochs(seven, 1) == [
        "trainer.total_training_steps=7 takes 4 epochs: trainer.total_epochs=1 follows it"
    ]
    enough = config("trainer.total_training_steps=7", "trainer.total_epochs=9")
    check_steps(enough, 40)
    assert enough.trainer.total_epochs == 9 and said_of_epochs(enough, 9) == []
    of_epochs = config("trainer.total_training_steps=null", "trainer.total_epochs=3")
    check_steps(of_epochs, 40)
    assert of_epochs.trainer.total_epochs == 3 and planned_steps(of_epochs, 40) == 6


def test_not_all_prompts_are_begun_at_the_first_step():
    ahead = ["trainer.total_training_steps=5", "trainer.v1.colocate_async.num_warmup_batches=5"]
    check_steps(config(*ahead), 100)  # nothing is ahead in sync
    partial = config(*ahead, "trainer.v1.trainer_mode=colocate_async")
    with pytest.raises(ValueError, match="num_warmup_batches=5: must be below the run's 5 steps"):
        check_steps(partial, 100)
    partial.trainer.v1.colocate_async.num_warmup_batches = 4
    check_steps(partial, 100)
