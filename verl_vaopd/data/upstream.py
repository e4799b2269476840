"""Reading upstream's parquet files a few rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from verl_vaopd.data.bad_rows import ConversionError, SourceError

BATCH_ROWS = 64


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ConversionError(f"{path} is not a readable parquet file ({error}): fetch it again") from error


def rows_in(files: list[Path]) -> int:
    """Rows of some parquet files, by their footers."""
    return sum(_open(path).metadata.num_rows for path in files)


def read_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[tuple[str, int, dict]]:
    """(file name, row in that file from 0, values) of some parquet files.

    Raises:
        SourceError: a column is missing.
        ConversionError: a file cannot be read.
    """
    for path in files:
        file = _open(path)
        missing = [column for column in columns if column not in file.schema_arrow.names]
        if missing:
            raise SourceError(f"{path} has no column {missing[0]!r} (it has {', '.join(file.schema_arrow.names)})")
        row = 0
        batches = file.iter_batches(BATCH_ROWS, columns=list(columns))
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise ConversionError(f"{path} is damaged after row {row} ({error}): fetch it again") from error
            if batch is None:
                break
            for values in batch.to_pylist():
                yield path.name, row, values
                row += 1
