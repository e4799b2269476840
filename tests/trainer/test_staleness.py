"""By how many updates the tokens of a step are behind the student."""

import torch

from verl_vaopd.trainer.staleness import staleness


def test_a_rollout_is_as_old_as_its_oldest_token():
    # The student stands after update 5. The first rollout was begun under 3 and ended under 5; the second is of now,
    # its last column is padding.
    versions = torch.tensor([[3, 3, 5], [5, 5, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    stale, metrics = staleness(versions, mask, 5)
    assert stale.tolist() == [[True, True, False], [False, False, False]]
    assert metrics == {"staleness/mean": 1.0, "staleness/max": 2.0, "staleness/tokens": 2 / 5}


def test_rollouts_of_the_student_itself_are_not_old():
    versions, mask = torch.full((2, 3), 7), torch.ones(2, 3, dtype=torch.bool)
    stale, metrics = staleness(versions, mask, 7)
    assert not stale.any() and metrics == {"staleness/mean": 0.0, "staleness/max": 0.0, "staleness/tokens": 0.0}
