"""A folder of answers: ``manifest.json``, which says how they were made, and one parquet file per group of prompts.

A row is one answer: id of the prompt's row, which sample of it, token ids, their log-probabilities, text, accuracy.
Parts are written aside and renamed, so a part that is there is whole.
"""

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = "manifest.json"
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "sample": pa.int32(),
        "token_ids": pa.list_(pa.int32()),
        "log_probs": pa.list_(pa.float32()),
        "text": pa.string(),
        "accuracy": pa.float32(),
    }
)
PARTS_HELD = 4  # by a reader


class AnswerWriter:
    """Writes a folder part by part; a second one goes on where the first stopped."""

    def __init__(self, folder: str | Path, settings: dict):
        """
        Args:
            settings: JSON; what decides the answers.
        Raises:
            ValueError: the folder holds answers of other settings.
        """
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if path.exists():
            there = json.loads(path.read_text())["settings"]
            differ = [name for name in {**there, **settings} if there.get(name) != settings.get(name)]
            if differ:
                shown = ", ".join(f"{name} {there.get(name)!r}, now {settings.get(name)!r}" for name in differ)
                raise ValueError(f"{self.folder} holds answers of other settings ({shown}): name another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self._manifest({"complete": False} if not path.exists() else json.loads(path.read_text()))

    def _manifest(self, state: dict) -> None:
        aside = self.folder / f"{MANIFEST}.tmp"
        aside.write_text(json.dumps({**state, "settings": self.settings}, indent=2) + "\n")
        os.replace(aside, self.folder / MANIFEST)

    def has(self, part: int) -> bool:
        return part_path(self.folder, part).exists()

    def write(self, part: int, rows: list[dict]) -> None:
        path = part_path(self.folder, part)
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def finish(self) -> dict:
        """Write and return the manifest of a complete folder."""
        columns = pa.concat_tables(
            pq.read_table(path, columns=["id", "accuracy", "token_ids"]) for path in part_paths(self.folder)
        )
        lengths = pa.compute.list_value_length(columns["token_ids"])
        state = {
            "complete": True,
            "prompts": len(columns["id"].unique()),
            "answers": len(columns),
            "accuracy": pa.compute.mean(columns["accuracy"]).as_py(),
            "tokens_mean": pa.compute.mean(lengths).as_py(),
            "tokens_max": pa.compute.max(lengths).as_py(),
        }
        self._manifest(state)
        return state


def part_path(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.parquet"


def part_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a complete folder.

    Raises:
        ValueError: no such folder, or one that is not complete; says which command makes it.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise ValueError(f"{folder} holds no answers: `verl-vaopd answers`, with this run's arguments, makes them")
    manifest = json.loads(path.read_text())
    if not manifest["complete"]:
        raise ValueError(f"{folder} is not complete: `verl-vaopd answers`, with this run's arguments, goes on with it")
    return manifest


class StoredAnswers:
    """Reads answers by row id; holds an index and a few parts."""

    def __init__(self, folder: str | Path):
        read_manifest(folder)
        self._parts = part_paths(Path(folder))
        self._index: dict[tuple[str, int], tuple[int, int]] = {}
        for part, path in enumerate(self._parts):
            keys = pq.read_table(path, columns=["id", "sample"]).to_pydict()
            for row, key in enumerate(zip(keys["id"], keys["sample"], strict=True)):
                self._index[key] = part, row
        self._part = lru_cache(PARTS_HELD)(pq.read_table)

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._index

    def of(self, row_id: str, sample: int) -> dict:
        """Answer ``sample`` of the prompt ``row_id``: the columns of ``SCHEMA``.

        Raises:
            ValueError: there is none.
        """
        if (row_id, sample) not in self._index:
            raise ValueError(f"row {row_id!r} has no stored answer {sample}: make the answers anew for these data")
        part, row = self._index[row_id, sample]
        return self._part(self._parts[part]).slice(row, 1).to_pylist()[0]

    def rows(self) -> Iterator[dict]:
        """All answers, in the order they were written."""
        for path in self._parts:
            yield from pq.read_table(path).to_pylist()
