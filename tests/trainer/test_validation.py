"""Accuracy on held-out problems, from the host's figures."""

import pytest
from transfer_queue import KVBatchMeta

from verl_vaopd.trainer.columns import uid_of
from verl_vaopd.trainer.step import TrainingStep
from verl_vaopd.trainer.validation import accuracies


def test_accuracy_is_the_mean_over_problems_not_over_sources():
    host = {"val-core/a/acc/mean@8": 1.0, "val-core/b/x/acc/mean@8": 0.0, "val-core/a/acc/best@8/mean": 1.0}
    found = accuracies(host, {"a": 200, "b/x": 1})
    assert found["val/accuracy"] == pytest.approx(200 / 201)  # a mean over sources would be 1/2
    assert found["val/accuracy/a"] == 1.0 and found["val/accuracy/b/x"] == 0.0


def test_one_source_has_one_figure():
    assert accuracies({"val-core/a/acc/mean@1": 0.25}, {"a": 4}) == {"val/accuracy": 0.25}


def test_held_out_rollouts_are_dealt_out_as_in_training():
    """They come in the order in which they end: each prompt on one rank, so that its images are encoded once."""
    prompts, siblings = ("a", "b", "c", "d"), 2
    keys = [f"{uid}_{session}_0" for session in range(siblings) for uid in prompts]  # no sibling beside its other
    batch = KVBatchMeta(partition_id="val", keys=keys, tags=[{"seq_len": 10} for _ in keys])
    TrainingStep._deal_out(batch, set(keys), ranks=4)
    shares = [{uid_of(key) for key in batch.keys[place : place + 2]} for place in range(0, 8, 2)]
    assert sorted(map(len, shares)) == [1] * 4 and set.union(*shares) == set(prompts)


def test_rows_that_the_host_added_come_last_of_all_before_they_are_dealt_out():
    keys = ["b_1_0", "added_0_0", "a_0_0", "b_0_0", "added_1_0", "a_1_0"]
    batch = KVBatchMeta(partition_id="val", keys=list(keys), tags=[{"seq_len": 10} for _ in keys])
    TrainingStep._deal_out(batch, {key for key in keys if not key.startswith("added")}, ranks=1)
    assert batch.keys[-2:] == ["added_0_0", "added_1_0"]
