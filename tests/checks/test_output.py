"""A folder that cannot be written and a disk without room are refused before a start; a full one is named later."""

import errno
from types import SimpleNamespace

import pytest

from verl_vaopd.checks import output as output_checks
from verl_vaopd.checks.output import check_output
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.compose import compose
from verl_vaopd.tiny.models import random_models


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    student, teacher = random_models(tmp_path_factory.mktemp("models"))
    required = [f"vaopd.teacher.path={teacher}", f"actor_rollout_ref.model.path={student}", "data.train_files=a"]
    return compose("tiny_cpu", [*required, "data.val_files=b"])


@pytest.fixture
def config(composed, tmp_path):
    copied = composed.copy()
    copied.vaopd.output_dir = str(tmp_path / "not" / "there")
    return copied


def test_a_folder_that_can_be_written_passes_and_nothing_is_left(config, tmp_path):
    check_output(config, 80)
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written_are_named(config, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("/proc/run", f"{tmp_path}/file/run", f"{tmp_path}/{'x' * 300}"):
        config.vaopd.output_dir = folder
        with pytest.raises(ValueError, match="vaopd.output_dir=.* cannot be written .*: name a folder"):
            check_output(config, 80)
    config.vaopd.output_dir = str(tmp_path)
    config.trainer.default_local_dir = "/proc/checkpoints"
    with pytest.raises(ValueError, match="trainer.default_local_dir=/proc/checkpoints: cannot be written"):
        check_output(config, 80)


def test_a_disk_that_cannot_hold_the_checkpoints_is_refused(config, tmp_path, monkeypatch):
    from verl_vaopd.planning.recipe import model_shape

    each = 16 * model_shape(config.actor_rollout_ref.model.path).total  # fp32: weights, two of AdamW, weights again
    free = {"bytes": 4 * each}
    monkeypatch.setattr(output_checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))
    check_output(config, 80)  # the newest two and the best are kept, one more while it is written
    free["bytes"] -= 1
    with pytest.raises(ValueError, match="(?s)0.0. GB free.*3 checkpoints .*trainer.max_actor_ckpt_to_keep"):
        check_output(config, 80)
    check_output(config, 20)  # one save
    checkpoints = tmp_path / "not" / "there" / "checkpoints" / "global_step_20"
    checkpoints.mkdir(parents=True)
    (checkpoints / "model.pt").write_bytes(bytes(1))  # what is there already needs no room again
    check_output(config, 80)


def test_a_disk_that_fills_up_is_named_with_the_file(tmp_path):
    """/dev/full takes no byte."""
    log = RunLog(str(tmp_path))
    paths = ("progress.log", "metrics.jsonl", "rollouts/step_1.jsonl")
    for name in paths:
        (tmp_path / name).symlink_to("/dev/full")
    writes = (lambda: log.say("x"), lambda: log.metrics({"step": 1}), lambda: log.rollouts(1, [{"id": "a"}]))
    for name, write in zip(paths, writes, strict=True):
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/{name}'") as error:
            write()
        assert error.value.errno == errno.ENOSPC
