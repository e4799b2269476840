"""The config of a run, from hydra's YAML and overrides, and what follows from it alone."""

import os
from functools import cache

REQUIRED = ("actor_rollout_ref.model.path", "vaopd.teacher.path", "data.train_files", "data.val_files")


def compose(config_name: str, overrides: list[str]):
    """The resolved hydra config of this package's YAML, verl's YAML and ``overrides``.

    Raises:
        ValueError: an override that is malformed or names an unknown setting, or a required setting that is missing.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from verl_vaopd.settings.suggestion import did_you_mean, setting_names

    try:
        config = _composed(config_name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        names = setting_names(untouched())
        raise ValueError(f"{error}".strip() + did_you_mean(f"{error}", overrides, names)) from error
    missing = [name for name in REQUIRED if _is_missing(config, name)]
    if missing:
        raise ValueError(f"not set: {', '.join(missing)}")
    return config


@cache
def untouched():
    """The config of GPU runs as nobody has changed it, what is required included."""
    return _composed("vaopd_trainer", [])


def _composed(config_name: str, overrides: list[str]):
    from importlib.util import find_spec

    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    # As a folder, not as pkg://verl.trainer.config: that would import verl, which chooses its platform when imported.
    host_configs = os.path.join(find_spec("verl").submodule_search_locations[0], "trainer", "config")
    with initialize_config_module("verl_vaopd.config", version_base=None):
        return hydra_compose(config_name, overrides=[f"hydra.searchpath=[file://{host_configs}]", *overrides])


def _is_missing(config, name: str) -> bool:
    from omegaconf import OmegaConf

    section, _, key = name.rpartition(".")
    node = OmegaConf.select(config, section)
    return not OmegaConf.is_dict(node) or key not in node or OmegaConf.is_missing(node, key)


def instantiate(config):
    """Section ``vaopd`` as its dataclass; hydra's wrapping of a refusal is taken off."""
    from hydra.errors import InstantiationException
    from omegaconf.errors import OmegaConfBaseException
    from verl.utils.config import omega_conf_to_dataclass

    from verl_vaopd.settings.config import VAOPDConfig

    try:
        section = omega_conf_to_dataclass(config.vaopd)
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error
    except (AssertionError, OmegaConfBaseException) as error:
        raise ValueError(f"vaopd: {error}") from error
    if not isinstance(section, VAOPDConfig):
        raise ValueError(f"vaopd={section!r}: must be the section of settings that verl_vaopd/settings/config.py lists")
    return section


def planned_steps(config, rows: int | None = None) -> int:
    """Optimiser steps of a run: ``trainer.total_training_steps``, else its epochs of whole batches.

    ``rows``: of the training data, by default counted in its files.
    """
    import pyarrow.parquet as pq

    if config.trainer.val_only:
        return 0
    if config.trainer.total_training_steps is not None:
        return config.trainer.total_training_steps
    if rows is None:
        files = config.data.train_files
        rows = sum(pq.read_metadata(path).num_rows for path in ([files] if isinstance(files, str) else files))
    if config.data.train_max_samples > 0:
        rows = min(rows, config.data.train_max_samples)
    return rows // config.data.train_batch_size * config.trainer.total_epochs
