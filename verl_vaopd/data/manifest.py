"""The output folder: complete with a manifest that proves it, or not there."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verl_vaopd.data.bad_rows import ConversionError, SourceError
from verl_vaopd.data.sources import sha256
from verl_vaopd.data.text import shown

MANIFEST = "manifest.json"
PARTIAL = ".partial"
SHAPE = {
    **dict.fromkeys(("sources", "validation", "counts", "left_out", "dropped", "files"), dict),
    **{"notes": list, "on_error": str, "upstream_sizes": bool},
}
"""What is read of a manifest again."""
FORMAT = 1  # of the rows and of the manifest; raised when the same source gives other files


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder and holds its lock: one writer at a time. Clears parts of files, its own and a killed run's.

    Raises:
        ConversionError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConversionError(f"another process is writing to {folder}") from None
        try:
            _clear(folder)
            yield
        finally:
            _clear(folder)


def _clear(folder: Path) -> None:
    for leftover in folder.glob(f"*.parquet{PARTIAL}"):
        leftover.unlink()


def partial(folder: Path, name: str) -> Path:
    """Where a file is written before it gets its name."""
    return folder / (name + PARTIAL)


def publish(folder: Path, names: list[str], manifest: dict) -> None:
    """Give the partial files their names and add the manifest last, with each file's size and SHA-256."""
    files = {name: partial(folder, name) for name in names}
    manifest = {"format": FORMAT} | manifest
    manifest["files"] = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in files.items()}
    for path in files.values():
        _to_disk(path)
    aside = partial(folder, MANIFEST)
    aside.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    _to_disk(aside)
    (folder / MANIFEST).unlink(missing_ok=True)  # so that no manifest ever stands beside another's files
    for name, path in (*files.items(), (MANIFEST, aside)):
        path.rename(folder / name)


def _to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_manifest(folder: Path, dataset: str) -> dict | None:
    """The manifest of an output folder; None if there is nothing yet, or what an interrupted ``publish`` left.

    Raises:
        SourceError: the folder holds another data set, or files that this command did not make.
    """
    path = folder / MANIFEST
    if not path.is_file():
        entries = sorted(entry.name for entry in folder.glob("[!.]*") if entry.suffix != PARTIAL)
        if entries and not partial(folder, MANIFEST).exists():
            raise SourceError(f"{folder} holds {entries[0]} and no {MANIFEST}: choose an empty or new folder")
        return None
    try:
        manifest = json.loads(path.read_text())
    except (ValueError, RecursionError):
        raise ConversionError(f"{path} is not readable JSON: remove {folder} and run again") from None
    if not isinstance(manifest, dict):
        raise ConversionError(f"{path} holds no manifest but {shown(manifest)}: remove {folder} and run again")
    if manifest.get("dataset") != dataset or manifest.get("format") != FORMAT:
        made = f"{manifest.get('dataset')}, format {manifest.get('format')}"
        raise SourceError(
            f"{folder} holds other data ({made}; asked for {dataset}, format {FORMAT}): remove it or choose another"
        )
    if wrong := [name for name, kind in SHAPE.items() if not isinstance(manifest.get(name), kind)]:
        raise ConversionError(f"{path} is damaged: it has no whole {wrong[0]!r}. Remove {folder} and run again")
    return manifest


def damaged_files(folder: Path, manifest: dict) -> dict[str, str]:
    """File name -> what is wrong with it, for every file that is not as the manifest says."""
    wrong = {}
    for name, recorded in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            wrong[name] = "is missing"
        elif path.stat().st_size != recorded["bytes"]:
            wrong[name] = f"has {path.stat().st_size:,} bytes, the manifest says {recorded['bytes']:,}"
        elif sha256(path) != recorded["sha256"]:
            wrong[name] = "has another SHA-256 than the manifest says"
    return wrong
