"""Which models a checkpoint belongs to, so that another run does not go on from it.

checkpoints/global_step_N/models.json holds path, config and fingerprint of the student that a run began with and of its
teacher. Neither is in the checkpoint itself.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
from pathlib import Path

from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from verl_vaopd.methods import Method
from verl_vaopd.model.head import local_checkpoint

MODELS = "models.json"
MODEL_SETTINGS = {"student": "actor_rollout_ref.model.path", "teacher": "vaopd.teacher.path"}
_IGNORED = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache")
_SAMPLES, _SAMPLE_BYTES = 16, 65536


def fingerprint(path: str | Path) -> str:
    """SHA-256, in hex, of a checkpoint's config and of each weights file's name, size and content.

    Of a file over 1 MiB, 16 stretches of 64 KiB are read, evenly spread from its header to its end: reading a teacher
    of 66 GB whole would take minutes at every start.
    """
    digest, folder = hashlib.sha256(), Path(path)
    digest.update(json.dumps(_config(folder), sort_keys=True).encode())
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with open(file, "rb") as f:
            if size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(f.read())
                continue
            for sample in range(_SAMPLES):
                f.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(f.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def models_of(config, method: Method) -> dict[str, str | None]:
    """Paths of a run's ``student`` and ``teacher``; None where it has none."""
    return {
        "student": config.actor_rollout_ref.model.path,
        "teacher": config.vaopd.teacher.path if method.teacher_views else None,
    }


def write_models(folder: str, **models: str | None) -> None:
    """Leave :data:`MODELS` in a checkpoint's folder.

    Args:
        models: paths, as :func:`models_of` gives them.
    """
    written = {name: {"path": path, **_identity(path)} for name, path in models.items() if path}
    with open(os.path.join(folder, MODELS), "w") as f:
        json.dump(written, f, indent=1)


def checkpoint_to_resume(config) -> Path | None:
    """The folder that verl will go on from (``trainer.resume_mode``), if any."""
    trainer = config.trainer
    if trainer.resume_mode == "resume_path":
        return Path(trainer.resume_from_path)
    if trainer.resume_mode != "auto":
        return None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where it looks
        found = find_latest_ckpt_path(trainer.default_local_dir)
    return Path(found) if found else None


def check_models_of(checkpoint: Path, **models: str | None) -> None:
    """Refuse to go on from a checkpoint of another student, or of a run with another teacher.

    Args:
        models: as :func:`models_of` gives them.
    Raises:
        ValueError: names the checkpoint, what differs and the cure.
    """
    if not (checkpoint / MODELS).exists():  # of a version that wrote none
        return
    written = json.loads((checkpoint / MODELS).read_text())
    for name, path in models.items():
        if not path or name not in written:
            continue
        was, now = written[name], _identity(path)
        if was["sha256"] == now["sha256"]:
            continue
        then, names = was["config"], sorted(set(was["config"]) | set(now["config"]))
        pairs = [(n, then.get(n), now["config"].get(n)) for n in names]
        differ = [f"{n}: {before!r}, now {after!r}" for n, before, after in pairs if before != after]
        shown = f"config ({'; '.join(differ[:5])}{', ...' * (len(differ) > 5)})" if differ else "weights"
        raise ValueError(
            f"{MODEL_SETTINGS[name]}={path}: {checkpoint} is of a run with another {name}, {was['path']}, which "
            f"differs in its {shown}. Set the {name} of that run, or vaopd.output_dir (RUN_DIR of a recipe) to a new "
            "folder"
        )


@functools.cache  # asked for at every save
def _identity(path: str) -> dict[str, object]:
    folder = Path(local_checkpoint(path))
    return {"sha256": fingerprint(folder), "config": _config(folder)}


def _config(folder: Path) -> dict[str, object]:
    """``config.json`` with dotted names, without what may change from one saving to the next."""
    return dict(_flat(json.loads((folder / "config.json").read_text())))


def _flat(section: dict, prefix: str = ""):
    for name, value in section.items():
        if name in _IGNORED:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
