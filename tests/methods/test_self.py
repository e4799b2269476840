"""Self-distillation from a better picture: whose the teacher is, how tokens weigh, what the student trains on."""

import pytest
import torch

from tests.methods.test_grpo_va import ACTOR, GAINS, step
from tests.methods.test_weights import config
from tests.settings.test_of_verl import REQUIRED
from verl_vaopd.checks.start import check_settings
from verl_vaopd.methods import Distillation, method_of
from verl_vaopd.settings.compose import compose
from verl_vaopd.trainer import workers
from verl_vaopd.trainer.workers import StudentTrainingWorker


@pytest.mark.parametrize("settings", [{}, {"token_grouping": False}, {"score": "sampled", "high_weight": 0.7}])
def test_tokens_weigh_as_in_va_opd(settings):
    given = step(GAINS, [1.0, 0.0], ["a", "a"])
    weights = [
        method_of(config(method=name, **settings)).weigh(given).student["token_weights"] for name in ("self", "vaopd")
    ]
    assert torch.equal(*weights)


def test_without_both_components_they_weigh_as_in_standard_opd():
    given = step(GAINS, [1.0, 0.0], ["a", "a"])
    off = {"rollout_weighting": False, "token_grouping": False}
    ours, plain = (
        method_of(config(**each)).weigh(given).student["token_weights"]
        for each in ({"method": "self", **off}, {"method": "opd"})
    )
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)


def test_another_teacher_is_refused():
    check_settings(compose("tiny_cpu", [*REQUIRED, "actor_rollout_ref.model.path=t", "vaopd.method=self"]))
    with pytest.raises(ValueError, match="vaopd.teacher.path.*the teacher of self is the student, frozen"):
        check_settings(compose("tiny_cpu", [*REQUIRED, "vaopd.method=self"]))


class OneView(Distillation):
    """Shows a view that is not there where the teacher has one alone."""

    title = "one view"
    shows_second_view = True

    def weigh(self, step):
        raise NotImplementedError


def test_a_method_of_ones_own_that_has_nothing_to_show_is_refused():
    given = [*REQUIRED, f"vaopd.method=pkg://{__name__}:OneView"]
    check_settings(compose("tiny_cpu", given))
    with pytest.raises(ValueError, match="vaopd.method='pkg.*second_view\\(\\) is never None"):
        check_settings(compose("tiny_cpu", [*given, "vaopd.degraded_view=false"]))


@pytest.mark.parametrize("method, trains_on", [("vaopd", "original"), ("self", "degraded"), ("grpo", "original")])
def test_the_student_trains_on_what_it_was_shown(monkeypatch, method, trains_on):
    def fetch(uids, degraded, original=True):
        return tuple(
            {uid: name for uid in uids} if asked else {}
            for name, asked in (("original", original), ("degraded", degraded))
        )

    monkeypatch.setattr(workers, "fetch_views", fetch)
    monkeypatch.setattr(workers, "get_device_id", lambda: "cpu")
    worker = StudentTrainingWorker.__new__(StudentTrainingWorker)
    worker.engine = type("Engine", (), {"_autocast_dtype": torch.float32})()
    monkeypatch.setattr(workers, "load_lm_head", lambda path: torch.zeros(1))
    worker.attach_objective(config(method=method), 10, ACTOR, temperature=1.0)
    assert worker._views(["a"]) == ({"a": trains_on}, {})
