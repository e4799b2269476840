"""What a score is of: checkpoint, questions, decoding; kept in the output folder and compared on every later run."""

import hashlib
import json
import os
from pathlib import Path

from verl_vaopd.serving import EvaluationError

FILE = "run.json"


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a checkpoint's files."""
    whole = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        whole.update(f"{path.relative_to(folder)} {file_hash(path)}\n".encode())
    return whole.hexdigest()


def write_json(path: Path, value) -> None:
    """Write aside, then rename: a reader sees the old file or the new one."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    os.replace(aside, path)


def continue_run(folder: Path, run: dict) -> dict:
    """The run's record joined with the folder's, which is written.

    Args:
        run: ``questions`` (benchmark -> hash) may grow; every other field must be as it was.
    Raises:
        EvaluationError: the folder holds answers to other questions, of another checkpoint, or sampled otherwise.
    """
    path = folder / FILE
    try:
        known = json.loads(path.read_bytes().decode()) if path.exists() else {"questions": {}}
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is no JSON ({error}): mend it, or give another --output") from error
    if not isinstance(known, dict) or not isinstance(known.get("questions"), dict):
        raise EvaluationError(f"{path} is not what verl-vaopd evaluate writes: mend it, or give another --output")
    for name, value in run.items():
        before = known.get(name, value)
        if name == "questions":
            different = [each for each in value if before.get(each, value[each]) != value[each]]
            wrong = f"its questions of {', '.join(different)} are not today's (--limit, data file)" if different else ""
        else:
            wrong = f"its {name} is {before}, not {value}" if before != value else ""
        if wrong:
            raise EvaluationError(f"{folder} holds another evaluation: {wrong}; give another --output")
    joined = {**run, "questions": {**known["questions"], **run["questions"]}}
    write_json(path, joined)
    return joined
