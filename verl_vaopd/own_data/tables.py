"""Sources of rows: a JSONL or parquet file, or a data set of the hub. Read a few rows at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from verl_vaopd.data.bad_rows import ConversionError, RowError, SourceError
from verl_vaopd.data.image_column import read_rows
from verl_vaopd.data.sources import Source, from_hub, local_copy
from verl_vaopd.own_data.fields import FieldMap, FieldPath

HUB = "hub:"
KINDS = (".parquet", ".jsonl")
MAX_LINE = 2**30  # bytes
MEND = "write one JSON object a line, as UTF-8"
JSON_ARRAY = "a list in one JSON file becomes lines with: jq -c '.[]' FILE.json > FILE.jsonl"


@dataclass(frozen=True)
class Table:
    """Files of one source. ``label``: how it is called in messages; ``root``: what paths of images start from."""

    label: str
    source: Source
    files: tuple[Path, ...]
    root: Path

    def name_of(self, file: Path) -> str:
        """A file in messages."""
        return self.label if len(self.files) == 1 else f"{self.label}/{file.relative_to(self.source.folder)}"

    def rows(self, fields: FieldMap) -> Iterator[tuple[str, int, dict | RowError]]:
        """(file, row in it from 0, values) of every row; of JSONL the line from 0, empty lines left out.

        Raises:
            SourceError: a parquet file has no such column.
            ConversionError: a file cannot be read.
        """
        for file in self.files:
            read = _parquet_rows if file.suffix == ".parquet" else _json_rows
            for row, values in read(file, fields):
                yield self.name_of(file), row, values

    def __len__(self) -> int:
        """Rows of parquet files and lines of JSONL files."""
        return sum(_lines(file) if file.suffix == ".jsonl" else _open(file).metadata.num_rows for file in self.files)


def open_table(given: str, revision: str | None = None, commit: str | None = None) -> Table:
    """What ``--from`` names.

    Args:
        given: a path, or ``hub:NAME[:SPLIT]``; a NAME that begins with ``/`` or ``.`` is a local copy laid out so.
        revision: branch, tag or commit on the hub, default main; ``commit``: read this one instead.
    Raises:
        SourceError: there is no such file, data set or split, or it is of another kind.
        ConversionError: the hub cannot be reached.
    """
    if given.startswith(HUB):
        return _hub_table(given, revision or "main", commit)
    path = Path(given)
    if path.suffix not in KINDS:
        more = f"; {JSON_ARRAY}" if path.suffix == ".json" else ""
        raise SourceError(f"--from {given}: must be a {' or '.join(KINDS)} file, or {HUB}NAME[:SPLIT]{more}")
    if not path.is_file():
        raise SourceError(f"--from {given}: there is no such file")
    return Table(given, Source(given, path.parent), (path,), path.parent)


def hub_name(given: str) -> tuple[str, str]:
    """Name and split of ``hub:NAME[:SPLIT]``; the split is train if none is given."""
    name, _, split = given.removeprefix(HUB).partition(":")
    return name, split or "train"


def _hub_table(given: str, revision: str, commit: str | None) -> Table:
    """Files of a split, in one folder: ``SPLIT.jsonl``, ``SPLIT-00000-of-00002.parquet``, ``SPLIT/0000.parquet``."""
    name, split = hub_name(given)
    folders = ("",) if "/" in split else ("", "*/")
    starts = [f"{folder}{split}{end}{kind}" for kind in KINDS for folder in folders for end in ("", "-*", "/*")]
    local = name.startswith(("/", "."))
    source = local_copy(given, name) if local else from_hub(name, starts, revision, commit)
    files = sorted({file for start in starts for file in source.folder.glob(start.replace("*/", "**/", 1))})
    if not files:
        raise SourceError(
            f"--from {given}: {name} has no {split}.parquet, {split}-*.parquet, {split}/*.parquet or .jsonl"
        )
    groups = sorted({(str(file.parent.relative_to(source.folder)), file.suffix) for file in files})
    if len(groups) > 1:
        found = ", ".join(f"{folder} ({kind})" for folder, kind in groups)
        raise SourceError(
            f"--from {given}: the split {split} is in several folders or kinds of file: {found}; name one as "
            f"{HUB}{name}:FOLDER/{split}"
        )
    return Table(given, source, tuple(files), source.folder)


def _lines(path: Path) -> int:
    total, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(2**20):
            total, last = total + block.count(b"\n"), block[-1:]
    return total + (last != b"\n")


def _json_rows(path: Path, fields: FieldMap) -> Iterator[tuple[int, dict | RowError]]:
    with open(path, "rb") as file:
        for row in count():
            line = file.readline(MAX_LINE)
            if not line:
                return
            if len(line) == MAX_LINE:
                raise ConversionError(f"{path}: line {row} has more than {MAX_LINE:,} bytes. {JSON_ARRAY}")
            if line.strip():
                yield row, _parsed(line.removeprefix(b"\xef\xbb\xbf"))


def _parsed(line: bytes) -> dict | RowError:
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return RowError("line", "not_utf8", f"is not UTF-8 text ({error.reason} at byte {error.start})", MEND)
    except (ValueError, RecursionError) as error:
        return RowError("line", "not_json", f"is no JSON ({error})", MEND)
    if not isinstance(values, dict):
        return RowError("line", "not_json", f"holds no object but {type(values).__name__}", f"{MEND}; {JSON_ARRAY}")
    return values


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)  # else a whole row group is read at once
    except (pa.ArrowException, OSError) as error:
        raise ConversionError(f"{path} is not a readable parquet file ({error}): write it again") from error


def _parquet_rows(path: Path, fields: FieldMap) -> Iterator[tuple[int, dict]]:
    table = _open(path)
    names = table.schema_arrow.names
    asked = {
        _column(field, names, path) for field in (fields.question, fields.answer, *fields.images, fields.id) if field
    }
    rows = read_rows(table, [name for name in names if name in asked], range(table.num_row_groups))
    for row in count():
        try:
            values = next(rows, None)
        except (pa.ArrowException, OSError) as error:
            raise ConversionError(f"{path} is damaged after row {row} ({error}): write it again") from error
        if values is None:
            return
        yield row, values


def _column(field: FieldPath, names: list[str], path: Path) -> str:
    name = field.text if field.text in names else field.steps[0]
    if name not in names:
        raise SourceError(f"{path} has no column {name!r} (it has {', '.join(names)}): correct --map")
    return name
