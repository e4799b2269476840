"""What settings name must be there before anything starts."""

import re
from pathlib import Path

import pytest

from tests.settings.test_of_verl import REQUIRED
from verl_vaopd.checks.start import check, check_settings
from verl_vaopd.settings.compose import compose
from verl_vaopd.settings.named import WEIGHTS, absent_checkpoint

OPTIM, REWARD = "actor_rollout_ref.actor.optim", "reward.custom_reward_function"
RAY = "ray_kwargs.ray_init"
OWN = Path(__file__).as_posix()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (f"{OPTIM}.optimizer=foo", f"{OPTIM}.optimizer='foo': must be a class of torch.optim"),
        (f"{OPTIM}.optimizer_impl=foo", f"{OPTIM}.optimizer_impl='foo': must be a module"),
        (f"{REWARD}.path=/nothere.py", f"{REWARD}.path='/nothere.py': must be a file of Python code that is there"),
        (f"{REWARD}.path=pkg://nothere.reward", f"{REWARD}.path='pkg://nothere.reward': must be"),
        (f"{REWARD}.path=/", f"{REWARD}.path='/': must be"),
        (f"{REWARD}.path=5", f"{REWARD}.path=5: must be"),
        (f"{REWARD}.name=scor", f"{REWARD}.name='scor': must be what pkg://verl_vaopd.data.reward defines"),
        ("data.custom_cls.path=/nothere.py", "data.custom_cls.path='/nothere.py': must be"),
        ("trainer.v1.sampler.custom_sampler.path=/nothere.py", "custom_sampler.path='/nothere.py': must be"),
        ("reward.reward_manager.name=foo", "reward.reward_manager.name='foo': must be one of dapo, gdpo, naive"),
        ("reward.reward_manager.source=foo", "reward.reward_manager.source='foo': must be"),
        ("reward.reward_manager.source=importlib", "reward.reward_manager.module.path=None: must be"),
        (f"+{RAY}.foo=1", f"{RAY}.foo=1: ray.init has no such setting"),
        (f"+{RAY}.runtime_env.env_vars.A=5", f"{RAY}.runtime_env.env_vars.A=5: must be text"),
    ],
)
def test_what_nothing_has_is_refused_by_name(override, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        check_settings(compose("tiny_cpu", [*REQUIRED, override]))


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{OPTIM}.optimizer=SGD"],
        [f"{REWARD}.path={OWN}", f"{REWARD}.name=OWN"],
        [f"{REWARD}.path=file://{OWN}", f"{REWARD}.name=OWN", f"+{REWARD}.reward_kwargs.within=1"],
        ["reward.reward_manager.name=dapo"],
        [f"+{RAY}.object_store_memory=100000000", f"+{RAY}._temp_dir=/tmp/a"],
        [f"+{RAY}.runtime_env.env_vars.A='5'"],
    ],
)
def test_what_is_there_passes(overrides):
    check_settings(compose("tiny_cpu", [*REQUIRED, *overrides]))


def test_a_checkpoint_to_go_on_from_must_be_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "global_step_4"
    config = compose("tiny_cpu", [*REQUIRED, "trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}"])
    assert "does not exist" in absent_checkpoint(config)
    assert f"trainer.resume_from_path='{folder}'" in " ".join(check(config, dry_run=True))
    (folder / WEIGHTS).parent.mkdir(parents=True)
    assert "it is no checkpoint" in absent_checkpoint(config)
    (folder / WEIGHTS).touch()
    assert absent_checkpoint(config) is None
    config.trainer.resume_mode = "auto"
    assert absent_checkpoint(config) is None
