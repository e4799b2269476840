"""Numbers going wrong: histories worked out by hand."""

import json
import math

import pytest
import torch

from verl_vaopd.runlog.alarm import SKIP, STOP, WARN
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.trainer.alarms import (
    StepAlarms,
    drift_limit_alarm,
    loss_alarm,
    scores_alarm,
    zero_va_alarm,
)

GOOD = {
    "loss": 0.1,
    "grad_norm": 1.0,
    "updates/skipped": 0,
    "response_length/truncated": 0.0,
    "drift/mean": 1e-4,
    "kl/mean": 0.1,
}
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
BOTH = [True, True]


def settings(**values) -> VAOPDConfig:
    return VAOPDConfig(teacher=TeacherConfig(path="teacher"), output_dir="run", **values)


def alarms_of(*changes: dict, earlier=(), **values) -> list[list[tuple[str, str]]]:
    """(name, rule) of the alarms of each step, after the records ``earlier``."""
    watch = StepAlarms(settings(**values), list(earlier))
    return [[(alarm.name, alarm.rule) for alarm in watch.of(GOOD | change)] for change in changes]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_stop_the_run_and_name_the_rows(value):
    scores = {"logp_original": torch.zeros(2, 3), "logp_pixelated": torch.zeros(2, 3)}
    assert scores_alarm(scores, MASK) is None
    scores["logp_pixelated"][1, 2] = value  # off the mask
    assert scores_alarm(scores, MASK) is None
    scores["logp_pixelated"][1, 1] = value
    alarm = scores_alarm(scores, MASK)
    assert (alarm.name, alarm.rule, alarm.rows) == ("teacher_scores", STOP, [1])
    assert "logp_pixelated of 1 tokens" in alarm.text and "vaopd.teacher.path" in alarm.text


def test_a_method_without_a_teacher_has_no_scores_to_stop_for():
    assert scores_alarm({}, MASK) is None


def test_all_zero_va_stops_the_run_unless_it_is_allowed():
    nothing = torch.full((2, 3), 1e-6)  # rounding
    assert zero_va_alarm(nothing, MASK, BOTH, settings()).rule == STOP
    assert "all 5 tokens" in zero_va_alarm(nothing, MASK, BOTH, settings()).text
    assert zero_va_alarm(nothing, MASK, BOTH, settings(allow_zero_va=True)) is None
    assert zero_va_alarm(nothing, MASK, BOTH, settings(method="opd", degraded_view=False)) is None
    assert zero_va_alarm(nothing + torch.eye(2, 3), MASK, BOTH, settings()) is None


def test_rollouts_without_an_image_have_no_va_to_miss():
    nothing = torch.zeros(2, 3)
    assert zero_va_alarm(nothing, MASK, [False, False], settings()) is None  # a batch of text-only rows
    assert "all 2 tokens with an image" in zero_va_alarm(nothing, MASK, [False, True], settings()).text
    of_text_alone = torch.tensor([[1.0, 0, 0], [0, 0, 0]])  # cannot be, and would not count
    assert zero_va_alarm(of_text_alone, MASK, [False, True], settings()).rule == STOP


def test_drift_above_its_limit_stops_the_run():
    assert drift_limit_alarm(0.2, None) is None
    assert drift_limit_alarm(0.1, 0.1) is None
    assert drift_limit_alarm(0.2, 0.1).rule == STOP


def test_skipped_updates_end_the_run_at_the_third_in_a_row():
    bad = {"loss": math.nan, "grad_norm": math.nan, "updates/skipped": 1}
    skip, stop = [("update_skipped", SKIP)], [("update_skipped", STOP)]
    assert alarms_of(bad, bad, {}, bad, bad, bad) == [skip, skip, [], skip, skip, stop]
    assert alarms_of(bad, earlier=[GOOD | bad, GOOD | bad]) == [stop]  # a resumed run goes on counting
    assert alarms_of(bad, max_skipped_steps=1) == [stop]


def test_a_loss_that_is_not_finite_stops_the_run_where_no_update_was_skipped():
    assert loss_alarm(GOOD) is None
    assert loss_alarm(GOOD | {"loss": math.inf}).rule == STOP
    assert loss_alarm(GOOD | {"loss": math.inf, "updates/skipped": 1}) is None


def test_truncation_of_every_rollout_is_warned_of_every_tenth_step():
    all_cut = {"response_length/truncated": 1.0}
    found = alarms_of({"response_length/truncated": 0.98}, *[all_cut] * 12)
    assert [step for step, alarms in enumerate(found) if alarms] == [1, 11]
    assert found[1] == [("all_truncated", WARN)]


def test_a_leap_of_the_drift_is_warned_of():
    """Above 10 x the median of at least five earlier steps, and above 1e-3 nats."""
    assert alarms_of(*[{}] * 5, {"drift/mean": 1.1e-3})[-1] == [("drift", WARN)]
    assert alarms_of(*[{}] * 4, {"drift/mean": 1.1e-3})[-1] == []
    assert alarms_of(*[{}] * 5, {"drift/mean": 0.9e-3})[-1] == []
    small = {"drift/mean": 1e-6}  # fp32: ten times of nothing is nothing
    assert alarms_of(*[small] * 5, {"drift/mean": 9e-4})[-1] == []


def test_a_kl_that_rises_for_long_is_warned_of():
    """20 steps at 0.1, then at 0.21: after n of these the mean is 0.1 + 0.0055 n, above 0.15 from n = 10."""
    found = alarms_of(*[{}] * 20, *[{"kl/mean": 0.21}] * 12)
    assert [step for step, alarms in enumerate(found) if alarms] == [29]
    assert found[29] == [("kl_rising", WARN)]
    assert not any(alarms_of(*[{}] * 20, {"kl/mean": 0.9}, *[{}] * 20))  # one step is no trend
    assert not any(alarms_of(*[{"kl/mean": 0.2 - 0.005 * step} for step in range(40)]))


def test_an_alarm_is_said_and_its_rollouts_saved_as_json(tmp_path):
    log = RunLog(str(tmp_path))
    told = log.alarm(7, "teacher_scores", "not finite", [{"id": "row-3", "va": [0.5, math.nan, -math.inf]}])
    assert told == "step 7: not finite (rows row-3: faults/step_7_teacher_scores.jsonl)"
    assert f"ALARM teacher_scores: {told}" in (tmp_path / "progress.log").read_text()
    [line] = (tmp_path / "faults" / "step_7_teacher_scores.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"id": "row-3", "va": [0.5, "nan", "-inf"]}


def test_metrics_have_no_nan_and_resume_after_a_torn_line(tmp_path):
    log = RunLog(str(tmp_path))
    log.metrics({"step": 1, "loss": math.nan})
    log.metrics({"step": 2, "loss": 0.5})
    with open(log.metrics_path, "a") as f:
        f.write('{"step": 3, "lo')  # killed while writing
    log.truncate(2)
    log.metrics({"step": 3, "loss": 0.25})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["loss"] for line in lines] == [None, 0.5, 0.25]
