"""verl's row format: its parquet schema, one row of it, and a writer that never holds a whole file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_text = pa.string()
SCHEMA = pa.schema(
    {
        "data_source": _text,
        "prompt": pa.list_(pa.struct({"role": _text, "content": _text})),
        "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": _text})),
        "ability": _text,
        "reward_model": pa.struct({"style": _text, "ground_truth": _text}),
        "extra_info": pa.struct({"split": _text, "index": pa.int64(), "id": _text, "question": _text, "answer": _text}),
    }
)
GROUP_ROWS = 256
GROUP_BYTES = 256 * 2**20  # of images; an Arrow column of 2 GiB would overflow its offsets


def verl_row(
    data_source: str, split: str, index: int, row_id: str, question: str, answer: str, truth: str, images: list[bytes]
) -> dict:
    """One row: the question is the whole prompt, ``truth`` what the reward compares with, ``answer`` the data set's."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": question}],
        "images": [{"bytes": data, "path": None} for data in images],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"split": split, "index": index, "id": row_id, "question": question, "answer": answer},
    }


class RowWriter:
    """Writes rows to a parquet file in groups of at most 256 rows; holds one group. A context manager."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = pq.ParquetWriter(self.path, SCHEMA)
        self._rows: list[dict] = []
        self._bytes = 0
        self.ids: list[str] = []

    def write(self, row: dict) -> None:
        self._rows.append(row)
        self._bytes += sum(len(image["bytes"]) for image in row["images"])
        self.ids.append(row["extra_info"]["id"])
        if len(self._rows) == GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._rows, self._bytes = [], 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._flush()
        self._file.close()


def write_rows(rows: list[dict], path: str | Path) -> Path:
    """Write rows as parquet. Returns the path."""
    with RowWriter(path) as writer:
        for row in rows:
            writer.write(row)
    return Path(path)
