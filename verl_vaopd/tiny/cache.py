"""A folder that is complete or not there: fingerprint, check, build aside, rename. Imports no torch."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from verl_vaopd.tiny.tasks import TASKS, Task

MANIFEST = "manifest.json"
ASIDE = ("__main__.py", "cache.py", "tasks.py")  # they decide which folder is made, not what is in it
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow")


def fingerprint(seed: int, trained: bool, task: Task = TASKS["figures"]) -> dict:
    """What decides the content of the folder: seed, kind, library versions, and the code that makes it."""
    package = Path(__file__).parents[1]
    sources = [path for pattern in task.sources for path in sorted(package.glob(pattern)) if path.name not in ASIDE]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return {
        **({} if task.name == "figures" else {"task": task.name}),
        "seed": seed,
        "trained": trained,
        "libraries": {name: version(name) for name in LIBRARIES},
        "code": code,
    }


def read_manifest(folder: Path, task: Task = TASKS["figures"]) -> dict | None:
    """The manifest of a complete folder; None if there is none or a file is missing.

    Raises:
        ValueError: a manifest that is damaged, or of something else.
    """
    manifest = _manifest(folder)
    return manifest if all((folder / name).is_file() for name in task.files) else None


def check_replaced(folder: Path, fingerprint: dict) -> None:
    """Whether what is to be made may take the folder's place: models of the same task may, others cost minutes.

    Raises:
        ValueError: the folder holds models of another task, or trained ones where untrained ones are asked for; a
            manifest that is damaged, or of something else.
    """
    manifest = _manifest(folder)
    if manifest is None:
        return
    held, wanted = (_described(each) for each in (manifest["fingerprint"], fingerprint))
    if held[1] != wanted[1] or held[0] == "trained" and wanted[0] != "trained":
        raise ValueError(
            f"{folder} holds {' '.join(held)}, not replaced by {' '.join(wanted)}: choose another --output "
            "(recipes: VAOPD_TINY_DIR), or remove it"
        )


def _described(fingerprint: dict) -> tuple[str, str]:
    kind = "trained" if fingerprint["trained"] else "untrained"
    return kind, f"models of --task {fingerprint.get('task', 'figures')}"


def _manifest(folder: Path) -> dict | None:
    """Of a folder, complete or not; None if there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove {folder}, it is made anew") from error
    if not isinstance(manifest, dict) or "measured" not in manifest or "trained" not in manifest.get("fingerprint", {}):
        raise ValueError(f"{path} is no manifest of tiny models: choose another --output, or remove {folder}")
    return manifest


def build_aside(folder: Path, fingerprint: dict, make: Callable[[Path], dict]) -> dict:
    """Run ``make`` on a new folder beside ``folder``, add the manifest, then put it in its place.

    Returns:
        The manifest: fingerprint and what ``make`` measured.
    Raises:
        ValueError: ``folder`` holds something that was not made here.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and has no {MANIFEST}: not replaced, choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (folder.with_name(f"{folder.name}.{word}-{os.getpid()}") for word in ("tmp", "old"))
    aside.mkdir()
    try:
        manifest = {"fingerprint": fingerprint, "measured": make(aside)}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return manifest
