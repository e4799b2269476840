"""All that is looked at before anything is loaded: settings, models, rows, folders."""

import os

from verl_vaopd.settings.compose import instantiate, planned_steps


def check(config, dry_run: bool = False) -> list[str]:
    """All checks that need no worker.

    Returns:
        What could not be checked: files and models that are not here yet, which only ``dry_run`` lets pass.
    Raises:
        ValueError: says what to mend.
    """
    from omegaconf import OmegaConf

    from verl_vaopd.checks.identity import MODEL_SETTINGS, check_models_of, checkpoint_to_resume, models_of
    from verl_vaopd.checks.models import check_answers, check_models
    from verl_vaopd.checks.output import check_output
    from verl_vaopd.checks.rows import check_rows, image_limit
    from verl_vaopd.model.head import is_here
    from verl_vaopd.rollout.image_views import degradation_of
    from verl_vaopd.settings.config import ANSWERED_BY_TEACHER

    vaopd = check_settings(config)
    models = {name: path for name, path in models_of(config, vaopd).items() if path}
    missing = [f"{MODEL_SETTINGS[name]}: {path}" for name, path in models.items() if dry_run and not is_here(path)]
    processor = None if missing else check_models(*models.values())
    for name in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, name)
        absent = [path for path in ([files] if isinstance(files, str) else files) if not os.path.exists(path)]
        if dry_run and absent:
            missing.append(f"{name}: {', '.join(absent)}")
        elif processor:
            rows = check_rows(files, name, processor, config.data, degradation_of(vaopd), image_limit(config))
            if name == "data.train_files":
                check_batches(config, rows)
    if vaopd.method in ANSWERED_BY_TEACHER:
        if dry_run and not os.path.isdir(vaopd.answers):
            missing.append(f"vaopd.answers: {vaopd.answers}")
        else:
            check_answers(config)
    if not missing and not dry_run:
        if checkpoint := checkpoint_to_resume(config):
            check_models_of(checkpoint, **models_of(config, vaopd))
        check_output(config, planned_steps(config))
    return missing


def check_settings(config):
    """All checks that need the config alone. Returns section ``vaopd`` as its dataclass.

    Raises:
        ValueError: names the setting.
    """
    from hydra.errors import InstantiationException
    from omegaconf.errors import OmegaConfBaseException
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from verl_vaopd.checks.host_values import check_host_values
    from verl_vaopd.settings.config import validate_host_settings

    vaopd = instantiate(config)
    check_host_values(config)
    try:
        validate_host_settings(config)
        validate_config(config, use_reference_policy=False, use_critic=False)
        omega_conf_to_dataclass(config.actor_rollout_ref.rollout)  # settings that it has no field for
    except (AssertionError, InstantiationException, OmegaConfBaseException) as error:  # the host's own refusals
        raise ValueError(f"verl refuses the config: {error}") from error
    return vaopd


def check_batches(config, rows: int) -> None:
    """Refuse training data of less than one batch."""
    rows = min(rows, config.data.train_max_samples) if config.data.train_max_samples > 0 else rows
    if rows < config.data.train_batch_size and not config.trainer.val_only:
        raise ValueError(
            f"data.train_batch_size={config.data.train_batch_size}: must be {rows} or less, the rows of "
            "data.train_files (data.train_max_samples)"
        )
