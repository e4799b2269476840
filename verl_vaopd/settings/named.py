"""What settings name in text must be there: files, classes, Ray's own settings, a checkpoint to go on from."""

import inspect
import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from omegaconf import OmegaConf

OPTIM, MANAGER = "actor_rollout_ref.actor.optim", "reward.reward_manager"
CODE = ("reward.custom_reward_function", "data.custom_cls", "trainer.v1.sampler.custom_sampler")
"""Sections of a ``path`` of Python code and a ``name`` in it."""
PACKAGE, FILE = "pkg://", "file://"
WEIGHTS = Path("actor", "distributed", ".metadata")
"""Of a checkpoint's folder, where ``student/checkpoint.py`` puts it; written last."""


def check_named(config) -> None:
    """Refuse names that nothing has.

    Raises:
        ValueError: names the setting and what would do.
    """
    _check_optimizer(config.actor_rollout_ref.actor.optim)
    for section in CODE:
        chosen = OmegaConf.select(config, section)
        if chosen.path is not None:
            _check_code(section, chosen.path, chosen.name)
    _check_manager(config.reward.reward_manager)
    _check_ray(config.ray_kwargs.ray_init)


def _check_optimizer(optim) -> None:
    try:
        module = import_module(optim.optimizer_impl)
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(
            f"{OPTIM}.optimizer_impl={optim.optimizer_impl!r}: must be a module that can be imported: {error}"
        ) from error
    if not callable(getattr(module, optim.optimizer, None)):
        raise ValueError(
            f"{OPTIM}.optimizer={optim.optimizer!r}: must be a class of {optim.optimizer_impl} ({OPTIM}.optimizer_impl)"
        )


def _check_code(section: str, path, name) -> None:
    """Without running it: somebody's module may want what only workers have."""
    source, wanted = _source(path), "a file of Python code that is there, or pkg:// and a module that is installed"
    if source is None:
        raise ValueError(f"{section}.path={path!r}: must be {wanted}")
    text = source.read_text(errors="replace")
    if not isinstance(name, str) or not (re.search(rf"\b{re.escape(name)}\b", text) or "import *" in text):
        raise ValueError(f"{section}.name={name!r}: must be what {path} defines")


def _source(path) -> Path | None:
    if not isinstance(path, str):
        return None
    if path.startswith(PACKAGE):
        try:
            found = find_spec(path.removeprefix(PACKAGE).replace("/", "."))
        except (ImportError, ValueError):
            return None
        path = found.origin if found and found.origin else ""
    file = Path(path.removeprefix(FILE))
    return file if file.is_file() else None


def _check_manager(manager) -> None:
    if manager.source == "importlib":
        _check_code(f"{MANAGER}.module", manager.module.path, manager.name)
        return
    if manager.source != "register":
        raise ValueError(f"{MANAGER}.source={manager.source!r}: must be 'register' or 'importlib'")
    if manager.name == "naive":  # verl's default; the others are looked up, which takes seconds
        return
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

    if not isinstance(manager.name, str) or manager.name not in REWARD_MANAGER:
        raise ValueError(f"{MANAGER}.name={manager.name!r}: must be one of {', '.join(sorted(REWARD_MANAGER))}")


def _check_ray(settings) -> None:
    """``ray.init`` ends on a setting that it does not know, and on a variable that is no text."""
    usual = {"num_cpus", "num_gpus", "include_dashboard", "runtime_env"}
    if more := {str(key) for key in settings} - usual:
        from ray import init

        known = set(inspect.signature(init).parameters) - {"kwargs"}
        if unknown := sorted(key for key in more - known if not key.startswith("_")):  # Ray's own of _ are not listed
            name = f"ray_kwargs.ray_init.{unknown[0]}"
            raise ValueError(f"{name}={settings[unknown[0]]!r}: ray.init has no such setting; take it out")
    environment = settings.get("runtime_env") or {}
    if OmegaConf.is_config(environment):
        for name, value in (environment.get("env_vars") or {}).items():
            if not isinstance(value, str):
                full = f"ray_kwargs.ray_init.runtime_env.env_vars.{name}"
                raise ValueError(f"{full}={value!r}: must be text: in hydra's grammar {full}='\"{value}\"'")


def absent_checkpoint(config) -> str | None:
    """What is wrong with ``trainer.resume_from_path``, where the run is to go on from it."""
    trainer = config.trainer
    if trainer.resume_mode != "resume_path":
        return None
    path = trainer.resume_from_path
    if (Path(path) / WEIGHTS).exists():
        return None
    missing = f"has no {WEIGHTS}, so it is no checkpoint" if os.path.exists(path) else "does not exist"
    return f"trainer.resume_from_path={path!r}: {missing}: name a folder global_step_N of a run's checkpoints"
