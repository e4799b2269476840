"""All that is looked at before anything is loaded: settings, models, rows, folders."""

import contextlib
import os
import random
import sys
from typing import TYPE_CHECKING

from verl_vaopd.settings.compose import planned_steps
from verl_vaopd.settings.named import absent_checkpoint
from verl_vaopd.settings.resumed import check_kept_settings
from verl_vaopd.settings.steps import check_steps

if TYPE_CHECKING:  # imports torch
    from verl_vaopd.methods import Method


def check(config, dry_run: bool = False) -> list[str]:
    """All checks that need no worker.

    Returns:
        What could not be checked: files and models that are not here yet, which only ``dry_run`` lets pass.
    Raises:
        ValueError: says what to mend.
    """
    from omegaconf import OmegaConf

    from verl_vaopd.checks import identity
    from verl_vaopd.checks.answers import check_answers
    from verl_vaopd.checks.attention import kernels_of
    from verl_vaopd.checks.host_values import graded_by_rule
    from verl_vaopd.checks.layouts import layouts_of, padded_words
    from verl_vaopd.checks.models import check_models, check_student_heads, model_type_of
    from verl_vaopd.checks.output import check_output
    from verl_vaopd.checks.rows import check_rows, image_limit, paths_of
    from verl_vaopd.checks.trackers import check_trackers
    from verl_vaopd.checks.trained import check_trained, check_trained_of
    from verl_vaopd.model.head import is_here

    method = check_settings(config)
    if method.answers_by != "teacher" and (folder := method.settings.answers):  # not of `verl-vaopd answers`
        raise ValueError(f"vaopd.answers={folder!r}: nothing follows it under vaopd.method={method.name}; take it out")
    no_checkpoint = absent_checkpoint(config)
    if no_checkpoint and not dry_run:
        raise ValueError(no_checkpoint)
    check_trackers(config, os.environ)
    kernels_of(config, method)  # refuses what cannot run
    models = {name: path for name, path in identity.models_of(config, method).items() if path}
    absent = {identity.MODEL_SETTINGS[name]: path for name, path in models.items() if dry_run and not is_here(path)}
    missing = [f"{setting}: {path}" for setting, path in absent.items()]
    processor = None if missing else check_models(*models.values())
    here = {name: path for name, path in models.items() if is_here(path)}
    for line in padded_words(layouts_of(config, here)):
        print(line, flush=True)
    if is_here(models["student"]):
        check_student_heads(models["student"], config.actor_rollout_ref.rollout.tensor_model_parallel_size)
        check_trained(config)
    second_view = method.second_view(random.Random(0), validate=False)
    for name in ("data.train_files", "data.val_files"):
        files = OmegaConf.select(config, name)
        absent = [path for path in paths_of(files, name) if not os.path.exists(path)]
        if dry_run and absent:
            missing.append(f"{name}: {', '.join(absent)}")
        elif processor:
            limit, model_type = image_limit(config), model_type_of(models["student"])
            by_rule = graded_by_rule(config) and (name == "data.val_files" or method.policy_gradient)
            rows = check_rows(files, name, processor, config.data, second_view, limit, model_type, by_rule)
            if name == "data.train_files":
                check_steps(config, rows)
    if method.answers_by == "teacher":
        folder = method.settings.answers
        if dry_run and not os.path.isdir(folder):
            missing.append(f"vaopd.answers: {folder}")
        else:
            check_answers(config, method)
    if no_checkpoint:
        missing.append(no_checkpoint)
    if not missing and not dry_run:
        if checkpoint := identity.checkpoint_to_resume(config):
            identity.check_models_of(checkpoint, **identity.models_of(config, method))
            check_trained_of(checkpoint, config)
            check_kept_settings(checkpoint, config)
        check_output(config, planned_steps(config))
    return missing


def check_settings(config) -> "Method":
    """All checks that need the config alone. Returns the method, whose word on verl's settings the config then has.

    Raises:
        ValueError: names the setting.
    """
    from hydra.errors import InstantiationException
    from omegaconf.errors import OmegaConfBaseException
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from verl_vaopd.checks.host_settings import validate_host_settings
    from verl_vaopd.checks.host_values import check_host_values
    from verl_vaopd.methods import method_of
    from verl_vaopd.settings.compose import instantiate, untouched
    from verl_vaopd.settings.conditional import refuse_idle
    from verl_vaopd.settings.named import check_named
    from verl_vaopd.settings.of_verl import refuse_unread

    check_host_values(config)  # before the own section, which takes some of them (data.seed)
    method = method_of(instantiate(config))
    method.prepare(config)
    try:
        validate_host_settings(config)
        refuse_unread(config, untouched())
        refuse_idle(config, untouched(), method.policy_gradient)
        check_named(config)
        looked_at = config.copy()
        looked_at.actor_rollout_ref.model.lora_rank = 0  # for adapters it would import vLLM, to learn its largest rank
        with contextlib.redirect_stdout(sys.stderr):  # it says that it is done
            validate_config(looked_at, use_reference_policy=False, use_critic=False)
        omega_conf_to_dataclass(config.actor_rollout_ref.rollout)  # settings that it has no field for
    except (AssertionError, InstantiationException, OmegaConfBaseException) as error:  # the host's own refusals
        raise ValueError(f"verl refuses the config: {error}") from error
    return method
