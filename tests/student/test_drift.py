"""vLLM's log-probabilities are compared with the student's on tokens of its own weights."""

import pytest
import torch

from verl_vaopd.methods.interface.objective import Outcome
from verl_vaopd.student.engine import STALE, StudentEngine


def drift(monkeypatch, **more) -> dict[str, float]:
    """Of four tokens, on which the two differ by 0.5, 0.25, 1 and 8 nats; the last is the host's padding."""
    engine = object.__new__(StudentEngine)
    monkeypatch.setattr(StudentEngine, "ulysses_parallel_group", None, raising=False)
    monkeypatch.setattr(StudentEngine, "get_data_parallel_size", lambda self: 1)
    outcome = Outcome(torch.tensor(0.0), torch.tensor([-1.0, -1.0, -1.0, -1.0]), {})
    fields = {
        "token_weights": torch.tensor([1.0, 1.0, 1.0, 0.0]),
        "rollout_log_probs": torch.tensor([-1.5, -0.75, -2.0, -9.0]),
        **more,
    }
    metrics = engine._statistics(torch.tensor(0.0), outcome, fields)
    return {name: sum(metrics[name].values) for name in ("drift_sum", "drift_tokens", "drift_max", "tokens")}


def test_all_tokens_of_rollouts_are_compared(monkeypatch):
    assert drift(monkeypatch) == {"drift_sum": 1.75, "drift_tokens": 3, "drift_max": 1.0, "tokens": 3}


@pytest.mark.parametrize(
    ("stale", "compared"),
    [
        ([0.0, 0.0, 1.0, 0.0], {"drift_sum": 0.75, "drift_tokens": 2, "drift_max": 0.5, "tokens": 3}),
        ([1.0, 1.0, 1.0, 0.0], {"drift_sum": 0.0, "drift_tokens": 0, "drift_max": 0.0, "tokens": 3}),
    ],
)
def test_tokens_of_earlier_weights_are_not(monkeypatch, stale, compared):
    assert drift(monkeypatch, **{STALE: torch.tensor(stale)}) == compared
