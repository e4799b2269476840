"""Settings that let a checkpoint bring code, or that put a secret into files."""

import re
from collections.abc import Iterator
from typing import Any

LOAD_FORMATS = ("auto", "safetensors", "dummy")
SECRET_SETTING = re.compile(
    r"(^|[_.])(api_?key|access_key|(hf|auth|access|api)_token|secret|secret_key|password)$", re.I
)
SECRET_VARIABLE = re.compile(r"env_vars\.\w*(KEY|TOKEN|SECRET|PASSWORD)$", re.I)


def _settings(section, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting."""
    items = section.items() if isinstance(section, dict) else enumerate(section)
    for key, value in items:
        inner = f"{name}.{key}" if name else str(key)
        if isinstance(value, dict | list):
            yield from _settings(value, inner)
        else:
            yield inner, value


def refuse_unsafe_settings(config) -> None:
    """Refuse settings that let a checkpoint bring code, or that put a secret into config.yaml and the logs.

    Raises:
        ValueError: names the setting and what to set instead.
    """
    from omegaconf import OmegaConf

    for name, value in _settings(OmegaConf.to_container(config, resolve=True)):
        normal = name.replace("-", "_")
        if normal.endswith("trust_remote_code") and value not in (None, False):
            raise ValueError(f"{name}={value!r}: must be false: code of a checkpoint is never run")
        if value and isinstance(value, str) and (SECRET_SETTING.search(normal) or SECRET_VARIABLE.search(normal)):
            raise ValueError(
                f"{name} holds a secret, which would be in config.yaml and in logs: leave it out and export the "
                "variable where the run, or the cluster's Ray, is started; workers inherit it"
            )
    load_format = config.actor_rollout_ref.rollout.load_format
    if load_format not in LOAD_FORMATS:
        wanted = f"one of {LOAD_FORMATS}: safetensors only"
        raise ValueError(f"actor_rollout_ref.rollout.load_format={load_format!r}: must be {wanted}")
