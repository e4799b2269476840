"""Checkpoints appear whole or not at all."""

import json
import os

import pytest

from verl_vaopd.runlog.run_log import CHOSEN, RunLog
from verl_vaopd.trainer.checkpoints import TRACKER, begin, publish


def save(folder, step: int, keep: int | None = 2, best: int | None = None, text: str = "whole") -> list[int]:
    aside = os.path.join(begin(str(folder)), f"global_step_{step}")
    os.makedirs(aside)
    with open(os.path.join(aside, "weights"), "w") as f:
        f.write(text)
    return publish(str(folder), step, keep, best)


def test_the_newest_and_the_best_are_kept(tmp_path):
    assert save(tmp_path, 1) == [1]
    assert save(tmp_path, 2, best=1) == [1, 2]
    assert save(tmp_path, 3, best=1) == [1, 2, 3]
    assert save(tmp_path, 4, best=1) == [1, 3, 4]
    assert save(tmp_path, 5, best=4) == [4, 5]
    assert save(tmp_path, 6, keep=None) == [4, 5, 6]
    assert save(tmp_path, 2, keep=1) == [2, 4, 5, 6]  # a run taken back to step 1: what came later is not its to remove
    assert save(tmp_path, 6, keep=3, best=4) == [4, 5, 6]
    assert (tmp_path / TRACKER).read_text() == "6"
    assert sorted(os.listdir(tmp_path)) == ["global_step_4", "global_step_5", "global_step_6", TRACKER]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_crash_at_any_rename_leaves_the_last_good_one(tmp_path, monkeypatch, renames):
    save(tmp_path, 1)
    done, rename = [], os.replace

    def crashing(*paths):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(paths)
        rename(*paths)

    monkeypatch.setattr(os, "replace", crashing)
    if renames < 2:
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    else:
        save(tmp_path, 2)
    newest = int((tmp_path / TRACKER).read_text())
    assert newest == (2 if renames == 2 else 1)
    assert (tmp_path / f"global_step_{newest}" / "weights").read_text() == "whole"
    monkeypatch.setattr(os, "replace", rename)
    save(tmp_path, 2)  # the step is done again
    assert (tmp_path / TRACKER).read_text() == "2"


def test_a_step_that_is_done_again_replaces_its_checkpoint(tmp_path):
    save(tmp_path, 1, text="first")
    save(tmp_path, 1, text="second")
    assert (tmp_path / "global_step_1" / "weights").read_text() == "second"


def test_a_crash_while_exporting_leaves_the_student_that_was_there(tmp_path, monkeypatch):
    source = tmp_path / "huggingface"
    source.mkdir()
    (source / "config.json").write_text("{}")
    log = RunLog(str(tmp_path / "run"))
    log.export(str(source), 1, 0.5)
    rename = os.replace

    def crashing(old, new):
        if str(old).endswith(".tmp"):
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(os, "replace", crashing)
    with pytest.raises(KeyboardInterrupt):
        log.export(str(source), 2, 0.6)
    monkeypatch.setattr(os, "replace", rename)
    assert log.chosen() == {"step": 1, "accuracy": 0.5}
    assert json.loads((tmp_path / "run" / "student" / CHOSEN).read_text())["step"] == 1
    log.export(str(source), 2, 0.6)
    assert log.chosen()["step"] == 2 and not (tmp_path / "run" / "student.old").exists()
