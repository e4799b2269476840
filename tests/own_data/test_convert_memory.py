"""Sources are read, and good rows set aside, a few rows at a time, however large the file and its row groups."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_vaopd.data.rows import verl_row, write_rows
from verl_vaopd.own_data.fields import parse_map
from verl_vaopd.own_data.parts import _read
from verl_vaopd.own_data.tables import open_table

ROWS, BYTES = 1200, 50_000  # 60 MB, of which 64 rows are 3.2 MB


@pytest.fixture(scope="module")
def rows():
    return [verl_row("a", "train", n, f"a/{n}", "q", "a", "a", [os.urandom(BYTES)]) for n in range(ROWS)]


def most_held(rows) -> int:
    """Bytes that Arrow holds at most while the rows pass."""
    before, most, count = pa.total_allocated_bytes(), 0, 0
    for _ in rows:
        count, most = count + 1, max(most, pa.total_allocated_bytes() - before)
    assert count == ROWS
    return most


def test_a_parquet_file_of_one_row_group(rows, tmp_path):
    layout = {"row_group_size": ROWS, "write_batch_size": 64, "use_dictionary": False}  # a page is read as a whole
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", **layout)
    fields = parse_map("question=prompt[0].content,answer=data_source,image=images")
    assert most_held(open_table(str(tmp_path / "a.parquet")).rows(fields)) < ROWS * BYTES / 2


def test_what_was_set_aside(rows, tmp_path):
    assert most_held(_read(write_rows(rows, tmp_path / "aside.parquet"))) < ROWS * BYTES / 2
