"""Are the trackers of ``trainer.logger`` there, and is the user known to them?"""

import netrc
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from verl_vaopd.trackers.swanlab_run import swanlab_mode
from verl_vaopd.trackers.trackers import TRACKERS, names_of

HOSTS = {
    "console": "verl",
    "file": "verl",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": "rl_insight",
    "vemlp_wandb": "volcengine_ml_platform",
}
"""Loggers that are left to the host, and their packages."""
PACKAGES = {name: name for name in TRACKERS} | HOSTS
SMALLER = {"mlflow": "mlflow-skinny"}
"""What is enough of a package."""


def check_trackers(config, environ: Mapping[str, str]) -> None:
    """Refuse what ``trainer.logger`` names and cannot be written.

    Raises:
        ValueError: an unknown name, a package that is not installed, no key where one is wanted, or one in an address.
    """
    for name in names_of(config.trainer.logger):
        setting = f"trainer.logger: {name!r}"
        if name not in PACKAGES:
            raise ValueError(
                f"{setting} is unknown; known are {', '.join(TRACKERS)} (docs/tracking.md), "
                f"and verl's own {', '.join(HOSTS)}"
            )
        if find_spec(package := PACKAGES[name]) is None:
            install = SMALLER.get(package, package)
            raise ValueError(f"{setting} wants the package {package}: pip install {install}, or take it out")
        server = urlsplit(environ.get("MLFLOW_TRACKING_URI", ""))
        if name == "mlflow" and server.scheme in ("http", "https") and "@" in server.netloc:
            raise ValueError(
                f"{setting}: MLFLOW_TRACKING_URI holds a user or a password, which would be in logs: export "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if name == "wandb" and not _knows_wandb(environ):
            raise ValueError(
                f"{setting}: no key for Weights & Biases: run `wandb login`, or export WANDB_API_KEY, or export "
                "WANDB_MODE=offline (then `wandb sync` later)"
            )
        if name == "swanlab" and not _knows_swanlab(environ):
            raise ValueError(
                f"{setting}: no key for SwanLab: run `swanlab login`, or export SWANLAB_API_KEY, or export "
                "SWANLAB_MODE=offline (then `swanlab sync` later)"
            )


def _knows_wandb(environ: Mapping[str, str]) -> bool:
    if environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun"):
        return True
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    paths = [Path(environ["NETRC"])] if "NETRC" in environ else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return any(netrc.netrc(path).authenticators(host) for path in paths if path.exists())


def _knows_swanlab(environ: Mapping[str, str]) -> bool:
    folder = Path(environ.get("SWANLAB_ROOT") or environ.get("SWANLAB_SAVE_DIR") or Path.home() / ".swanlab")
    return swanlab_mode(environ) != "online" or bool(environ.get("SWANLAB_API_KEY")) or (folder / ".netrc").exists()
