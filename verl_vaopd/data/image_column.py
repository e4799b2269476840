"""Rows of a parquet file as plain values, and its images checked. Imports no model code: a process pool runs it."""

from collections.abc import Iterable, Iterator

import pyarrow.parquet as pq

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.images import check_image

BATCH_ROWS = 64


def read_rows(table: pq.ParquetFile, columns: list[str], groups: Iterable[int]) -> Iterator[dict]:
    """The rows of some row groups, a few in memory at a time; a value that is not UTF-8 is its RowError."""
    for batch in table.iter_batches(BATCH_ROWS, row_groups=list(groups), columns=columns):
        for index in range(len(batch)):
            yield {
                name: _plain(column[index], name)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }


def _plain(value, name: str):
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text ({error.reason} at byte {error.start})"
        return RowError(name, "not_utf8", problem, "save it as UTF-8 or take the row out")


def check_images(entries, field: str) -> list[tuple[int, int]]:
    """Decode a row's images.

    Args:
        entries: list of ``{"bytes": ...}``; None is no image.
    Returns:
        Width and height of each, pixels.
    Raises:
        RowError: names the image.
    """
    if not isinstance(entries, list | None):
        raise RowError(field, "images", f"is no list but {type(entries).__name__}", "it must be [{bytes: ...}, ...]")
    sizes = []
    for place, entry in enumerate(entries or []):
        name = f"{field}[{place}]"
        data = entry.get("bytes") if isinstance(entry, dict) else entry
        if isinstance(entry, dict) and data is None and isinstance(entry.get("path"), str):
            problem = f"holds the path {entry['path']!r} and no bytes"
            raise RowError(name, "missing_image", problem, "put the file's bytes into the row: no path is opened")
        if not isinstance(entry, dict) or not isinstance(data, bytes | None):
            raise RowError(name, "images", f"is {type(data).__name__}", "it must be {bytes: an encoded image}")
        sizes.append(check_image(data, name))
    return sizes


def check_group(path: str, group: int, column: str) -> list[list[tuple[int, int]] | RowError]:
    """For each row of a row group: its images' sizes, or what is wrong with one of them."""
    results = []
    for row in read_rows(pq.ParquetFile(path), [column], [group]):
        try:
            if isinstance(row[column], RowError):
                raise row[column]
            results.append(check_images(row[column], column))
        except RowError as error:
            results.append(error)
    return results
