"""A run goes on as it began, where prompts are on their way."""

import json

import pytest
from omegaconf import OmegaConf

from verl_vaopd.settings.resumed import check_kept_settings, write_kept_settings


def config(mode="colocate_async", batch=16, ahead=2, steps=24, val_only=False):
    v1 = {"trainer_mode": mode, "colocate_async": {"num_warmup_batches": ahead}}
    trainer = {"v1": v1, "total_training_steps": steps, "val_only": val_only}
    return OmegaConf.create({"data": {"train_batch_size": batch}, "trainer": trainer})


@pytest.fixture
def checkpoint(tmp_path):
    """Of step 10, with something in its queue."""
    (folder := tmp_path / "global_step_10" / "transfer_queue").mkdir(parents=True)
    return folder.parent


def test_a_run_goes_on_in_the_mode_that_it_began_in(tmp_path):
    check_kept_settings(tmp_path, config("sync"))
    with pytest.raises(ValueError, match=r"trainer_mode=colocate_async: .* is of a run with sync: set that, or"):
        check_kept_settings(tmp_path, config())
    (tmp_path / "transfer_queue").mkdir()  # prompts on their way
    with pytest.raises(ValueError, match="holds no partial_rollouts.json"):
        check_kept_settings(tmp_path, config())
    with pytest.raises(ValueError, match=r"trainer_mode=sync: .* is of a run with colocate_async"):
        check_kept_settings(tmp_path, config("sync"))


def test_prompts_on_their_way_keep_their_batches(checkpoint):
    write_kept_settings(str(checkpoint), config(), 32)
    check_kept_settings(checkpoint, config())
    check_kept_settings(checkpoint, config(ahead=3))  # one batch more is begun
    with pytest.raises(ValueError, match=r"data.train_batch_size=8: .* is of a run with 16.*set that, or vaopd.output"):
        check_kept_settings(checkpoint, config(batch=8))
    with pytest.raises(ValueError, match=r"num_warmup_batches=1: .* has 2 ahead, which would stay: set that or more"):
        check_kept_settings(checkpoint, config(ahead=1))


def test_steps_are_left_for_the_prompts_on_their_way(checkpoint):
    write_kept_settings(str(checkpoint), config(), 32)  # two batches of 16: steps 11 and 12
    check_kept_settings(checkpoint, config(steps=12))
    with pytest.raises(ValueError, match=r"of 11 steps .*_10 holds 32, .* set trainer.total_training_steps=12 or more"):
        check_kept_settings(checkpoint, config(steps=11))
    check_kept_settings(checkpoint, config(steps=11, val_only=True))
    write_kept_settings(str(checkpoint), config(), 0)  # of a run that had 10 steps
    check_kept_settings(checkpoint, config(steps=10))
    (checkpoint / "partial_rollouts.json").write_text(
        '{"data.train_batch_size": 16, "trainer.v1.colocate_async.num_warmup_batches": 2}'  # of an earlier version
    )
    check_kept_settings(checkpoint, config(steps=11))


def test_a_checkpoint_without_such_prompts_says_nothing(tmp_path):
    write_kept_settings(str(tmp_path), config("sync"), 0)
    assert not list(tmp_path.iterdir())
    check_kept_settings(tmp_path, config("sync", batch=8))


def test_the_driver_leaves_them_in_its_checkpoints(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    from verl_vaopd.trainer import driver

    trainer = object.__new__(driver.PartialRolloutTrainer)
    trainer.config, trainer.global_steps, trainer.method, trainer._record = config(), 3, None, None
    trainer.config.trainer.update({"default_local_dir": str(tmp_path), "max_actor_ckpt_to_keep": 2})
    trainer.phases = SimpleNamespace(begin=lambda *_: None)
    trainer.run_log = SimpleNamespace(save_to=lambda *_: None, chosen=lambda: None)
    monkeypatch.setattr(driver, "models_of", lambda *_: {})
    monkeypatch.setattr(driver, "prompts_on_their_way", lambda: {"one", "other"})

    def save(self):
        (tmp_path / ".unfinished" / "global_step_3").mkdir()

    monkeypatch.setattr(PPOTrainer, "_save_checkpoint", save)
    trainer._save_checkpoint()
    assert json.loads((tmp_path / "global_step_3" / "partial_rollouts.json").read_text()) == {
        "data.train_batch_size": 16,
        "trainer.v1.colocate_async.num_warmup_batches": 2,
        "prompts": 2,
    }
