"""Trackers from the trainer's side: who is told what, and when."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from tests.diagnostics.written_runs import answer
from verl_vaopd.runlog.alarm import STOP, Alarm, StoppedByAlarm
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.trackers.trackers import TRACKERS
from verl_vaopd.trainer import driver, step
from verl_vaopd.trainer.driver import VAOPDTrainer
from verl_vaopd.trainer.tracking import draw_heat_maps, start_trackers

TRACKER = "kept"


class Kept:
    """A tracker that keeps what it is told."""

    last = None

    def __init__(self, start):
        self.start, self.is_empty, self.told = start, False, []
        Kept.last = self

    def __getattr__(self, what):
        return lambda *told: self.told.append((what, *told))


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setitem(TRACKERS, TRACKER, Kept)


def trainer_in(folder, logger) -> VAOPDTrainer:
    """As far as :meth:`VAOPDTrainer.fit` looks, at the start of a run of two steps."""
    trainer = object.__new__(VAOPDTrainer)
    settings = {"logger": logger, "project_name": "project", "experiment_name": "name", "val_only": False}
    settings |= {"test_freq": 1, "save_freq": 1, "default_local_dir": str(folder / "checkpoints")}
    trainer.config = OmegaConf.create({"trainer": settings})
    trainer.phases = SimpleNamespace(begin=lambda what: None)
    trainer.run_log, trainer.gauges = RunLog(str(folder)), SimpleNamespace(set=lambda record: None)
    trainer.global_steps, trainer.total_training_steps, trainer.stopped = 0, 2, False
    return trainer


def test_trackers_are_told_what_metrics_jsonl_has_and_the_closing_table(tmp_path, monkeypatch, kept):
    trainer = trainer_in(tmp_path, ["console", TRACKER])

    def loop(self, manager):
        assert list(self.config.trainer.logger) == ["console"]  # the host's own are left to it
        self._log({"step": 0, "val/accuracy": 0.25, "time/wall": 9.0})
        self._log({"step": 1, "loss": 0.5, "time/step": 2.0})

    monkeypatch.setattr(PPOTrainerSync, "fit", loop)
    monkeypatch.setattr(driver.tq, "kv_list", dict)
    trainer.fit(None)
    zeroth, first, table, end = Kept.last.told
    assert zeroth == ("log", 0, 9.0, {"val/accuracy": 0.25, "time/wall": 9.0})
    assert first == ("log", 1, None, {"loss": 0.5, "time/step": 2.0})
    assert table[:2] == ("table", 1) and "held-out accuracy" in table[2] and end == ("close", False)
    start = Kept.last.start
    assert (start.project, start.name, start.step) == ("project", "name", 0)


def test_an_alarm_that_stops_the_run_is_told(tmp_path, monkeypatch, kept):
    trainer = trainer_in(tmp_path, TRACKER)
    trainer.method, trainer.global_steps = SimpleNamespace(score_names=()), 3
    trainer.token_log = SimpleNamespace(alarm=lambda step, alarm, *_: f"step {step}: {alarm.text}")
    monkeypatch.setattr(step, "read_tokens", lambda batch, *names: ({}, None, [], []))
    monkeypatch.setattr(PPOTrainerSync, "fit", lambda self, _: self._stop_on(Alarm("drift", STOP, "far"), None))
    with pytest.raises(StoppedByAlarm):
        trainer.fit(None)
    logged, alarm, end = Kept.last.told
    assert logged[:2] == ("log", 3) and logged[3]["alarms/drift"] == 1
    assert alarm == ("alarm", 3, "drift", "step 3: far") and end == ("close", True)


def test_a_run_goes_on_in_its_trackers(tmp_path, kept):
    log = RunLog(str(tmp_path))
    for number in (1, 2):
        log.metrics({"step": number, "loss": 1.0})
    config = trainer_in(tmp_path, [TRACKER]).config
    trackers, others = start_trackers(config, log, step=2)
    assert others == [] and Kept.last.start.step == 2 and trackers.again == {"step": 2, "loss": 1.0}
    config.trainer.val_only = True  # of a trained student: what is there stays
    start_trackers(config, log, step=0)
    assert Kept.last.start.step is None


def test_a_few_held_out_problems_are_drawn(tmp_path):
    log, draw = RunLog(str(tmp_path)), random.Random(0)
    rows = [answer(log, draw, problem, skill=0.5) for problem in (4, 1, 2, 1, 3)]
    text_only, without_va = {**rows[0], "id": "a", "image": None}, {**rows[0], "id": "b"}
    del without_va["va"]
    log.rollouts(20, [text_only, without_va, *rows], kind="validation")
    drawn = draw_heat_maps(log, 20)
    assert [path.relative_to(tmp_path).as_posix() for path in drawn] == [
        f"heat_maps/step_20/geometry_{problem}.png" for problem in (1, 2, 3)
    ]
    pixels = np.asarray(Image.open(drawn[0]).convert("RGB")).reshape(-1, 3)
    assert (pixels == (230, 97, 0)).all(axis=1).sum() > 50  # the token of the highest VA in full colour
    assert draw_heat_maps(log, 40) == []
