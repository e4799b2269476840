"""The folder of a run: nothing logged twice after a resume, a summary that matches the log, a picture."""

import json
import math
import shutil
import time

import numpy as np
from PIL import Image

from verl_vaopd.runlog.run_log import RunLog, draw_curves, request_stop, shown_progress, summary_table


def fill(log: RunLog, steps: int) -> None:
    log.metrics({"step": 0, "val/accuracy": 0.25, "val/va/mean": 0.01, "val/va/top10_share": 0.9})
    for step in range(1, steps + 1):
        record = {"step": step, "loss": 1.0 / step, "kl/high": 2.0 / step, "kl/low": 0.5 / step, "va/mean": 0.1 * step}
        record |= {"accuracy": 0.1 * step, "time/step": 2.0}
        if step == steps:
            record |= {"val/accuracy": 0.75, "val/va/mean": 0.04, "val/va/top10_share": 0.95}
        log.metrics(record)


def test_summary_table_and_figure(tmp_path):
    log = RunLog(str(tmp_path))
    fill(log, 3)
    hf = tmp_path / "checkpoints" / "global_step_3" / "actor" / "huggingface"
    hf.mkdir(parents=True)
    (hf / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("3")
    summary = log.finish(str(tmp_path / "checkpoints"), planned_steps=3)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["before"]["accuracy"] == 0.25 and summary["after"]["accuracy"] == 0.75
    assert (tmp_path / "student" / "config.json").read_text() == "{}"
    assert Image.open(tmp_path / "curves.png").size[0] > 800
    table = summary_table(summary)
    assert "25.0%" in table and "75.0%" in table and str(tmp_path / "student") in table


def checkpoint(tmp_path, step: int) -> None:
    folder = tmp_path / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(f"student of step {step}")


def test_the_exported_student_is_the_best_and_the_earliest_of_equals(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (2, 4, 6, 8):
        checkpoint(tmp_path, step)
    kept = {2: 0.5, 3: 0.9, 4: 0.7, 6: 0.7, 8: 0.6}  # step 3 has no checkpoint
    exported = [step for step, accuracy in kept.items() if log.keep_best(step, accuracy, str(tmp_path / "checkpoints"))]
    assert exported == [2, 4]
    summary = log.finish(str(tmp_path / "checkpoints"), planned_steps=8)
    assert summary["student_step"] == 4
    assert (tmp_path / "student" / "config.json").read_text() == "student of step 4"


def test_a_checkpoint_brings_what_its_run_had_logged(tmp_path):
    log, checkpoints = RunLog(str(tmp_path)), tmp_path / "checkpoints"
    fill(log, 3)
    for step in (2, 3):
        checkpoint(tmp_path, step)
    log.keep_best(2, 0.7, str(checkpoints))
    log.save_to(str(checkpoints / "global_step_3"), {"step": 4, "loss": 0.25})

    moved = tmp_path / "moved"
    shutil.copytree(checkpoints, moved / "checkpoints")
    other = RunLog(str(moved))
    other.restore_from(str(moved / "checkpoints" / "global_step_3"))
    assert other.read() == [*log.read(), {"step": 4, "loss": 0.25}] and other.chosen() == {"step": 2, "accuracy": 0.7}
    assert (moved / "student" / "config.json").read_text() == "student of step 2"

    other.metrics({"step": 5, "loss": 0.1})
    other.keep_best(3, 0.8, str(moved / "checkpoints"))
    other.restore_from(str(moved / "checkpoints" / "global_step_3"))  # what is there is left as it is
    assert other.read()[-1]["step"] == 5 and other.chosen()["step"] == 3


def test_a_step_that_was_saved_and_not_logged_is_logged_on_resuming(tmp_path):
    log, folder = RunLog(str(tmp_path)), tmp_path / "checkpoints" / "global_step_4"
    folder.mkdir(parents=True)
    fill(log, 3)
    log.save_to(str(folder), {"step": 4, "loss": float("nan")})
    for _ in range(2):
        log.restore_from(str(folder))
        assert [record["step"] for record in log.read()] == [0, 1, 2, 3, 4] and log.read()[-1]["loss"] is None


def test_a_run_can_be_asked_to_stop(tmp_path):
    log = RunLog(str(tmp_path))
    assert not log.stop_requested
    request_stop(str(tmp_path))
    request_stop(str(tmp_path))
    assert log.stop_requested


def test_a_run_without_the_degraded_view_has_no_va(tmp_path):
    log = RunLog(str(tmp_path))
    for step in (1, 2):
        log.metrics({"step": step, "loss": 1.0, "kl/high": 1.0, "kl/low": 1.0, "accuracy": 0.5, "time/step": 2.0})
        log.metrics({"step": step, "val/accuracy": 0.25 * step})
    summary = log.finish(str(tmp_path / "checkpoints"), planned_steps=2)
    table = summary_table(summary)
    assert "50.0%" in table and "VA" not in table and Image.open(summary["figure"])


def test_a_run_that_only_evaluates_has_a_summary(tmp_path):
    log = RunLog(str(tmp_path))
    log.metrics({"step": 0, "val/accuracy": 0.25, "val/va/mean": 0.01, "val/va/top10_share": 0.9})
    summary = log.finish(str(tmp_path / "checkpoints"), planned_steps=0)
    assert summary["before"] == summary["after"] and summary["after"]["accuracy"] == 0.25
    assert (summary["steps"], summary["student"], summary["figure"]) == (0, None, None)
    assert "25.0%" in summary_table(summary)


def test_a_loss_below_zero_is_drawn(tmp_path):
    log = RunLog(str(tmp_path))
    for step, loss in ((1, 0.5), (2, -0.5)):  # of a policy gradient
        log.metrics({"step": step, "loss": loss, "accuracy": 0.5, "time/step": 2.0})
    assert Image.open(log.finish(str(tmp_path / "checkpoints"), planned_steps=2)["figure"])


def test_skipped_and_stopped_steps_are_left_out_of_the_picture(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    log, drawn = RunLog(str(tmp_path)), {}
    fill(log, 2)
    log.metrics({"step": 3, "loss": math.nan, "kl/high": math.inf, "accuracy": 0.5, "time/step": 2.0})
    log.metrics({"step": 4, "alarms": ["teacher_scores"]})
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **style: drawn.update({style["label"]: y}) or plot(self, x, y, **style)
    )
    draw_curves(log.read(), str(tmp_path / "curves.png"))
    assert drawn["loss"] == [1.0, 0.5] and drawn["KL, high-VA tokens"] == [2.0, 1.0]
    assert all(np.isfinite(values).all() for values in drawn.values())
    summary = log.finish(str(tmp_path / "checkpoints"), planned_steps=4)
    assert summary["steps"] == 3 and summary["seconds_per_step"] == 2.0


def test_resumed_run_logs_no_step_twice(tmp_path):
    log = RunLog(str(tmp_path))
    fill(log, 4)
    log.truncate(2)  # the checkpoint of step 2
    assert [record["step"] for record in log.read()] == [0, 1, 2]
    log.truncate(0)  # from scratch in the same folder: the validation of step 0 will be logged again
    assert log.read() == []


def test_an_image_is_kept_once(tmp_path):
    log = RunLog(str(tmp_path))
    names = [log.image(data) for data in (b"one", b"two", b"one")]
    assert names[0] == names[2] != names[1]
    assert [path.read_bytes() for path in sorted((tmp_path / "images").iterdir())] in (
        [b"one", b"two"],
        [b"two", b"one"],
    )
    assert (tmp_path / names[0]).read_bytes() == b"one"


def test_progress_is_shown_as_it_is_written(tmp_path, capsys):
    log = RunLog(str(tmp_path))
    log.say("of an earlier run")
    with shown_progress(str(tmp_path)):
        log.say("step 1/3")
        time.sleep(0.5)
        assert "step 1/3" in capsys.readouterr().out
        log.say("the last line")
    assert "the last line" in capsys.readouterr().out
