"""Reading upstream's parquet files a few rows at a time."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from verl_vaopd.data import image_column
from verl_vaopd.data.bad_rows import ConversionError, SourceError


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConversionError(f"{path} is not a readable parquet file ({error}): fetch it again") from error


def rows_in(files: list[Path]) -> int:
    """Rows of some parquet files, by their footers."""
    return sum(_open(path).metadata.num_rows for path in files)


def read_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[tuple[str, int, dict]]:
    """(file name, row in that file from 0, values) of some parquet files; a value that is not UTF-8 is its RowError.

    Raises:
        SourceError: a column is missing.
        ConversionError: a file cannot be read.
    """
    for path in files:
        file = _open(path)
        missing = [column for column in columns if column not in file.schema_arrow.names]
        if missing:
            raise SourceError(f"{path} has no column {missing[0]!r} (it has {', '.join(file.schema_arrow.names)})")
        rows = image_column.read_rows(file, list(columns), range(file.num_row_groups))
        for row in count():
            try:
                values = next(rows, None)
            except (pa.ArrowException, OSError) as error:
                raise ConversionError(f"{path} is damaged after row {row} ({error}): fetch it again") from error
            if values is None:
                break
            yield path.name, row, values
