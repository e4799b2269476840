"""Reads what an offline run of W&B left: records of LevelDB's log format after a head of 7 bytes."""

import json
import struct
from pathlib import Path

from wandb.proto import wandb_internal_pb2

BLOCK, HEAD = 32768, 7
WHOLE, LAST = 1, 4


def records_of(folder: Path) -> list:
    """The records in the file of ``offline-run-*``."""
    (path,) = folder.glob("run-*.wandb")
    data = path.read_bytes()
    place, parts, records = HEAD, b"", []
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:  # too short for a head: filled up
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + HEAD])
        parts += data[place + HEAD : place + HEAD + size]
        place += HEAD + size
        if kind in (WHOLE, LAST):
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


def rows_of(folder: Path) -> list[dict]:
    """What was logged, in order; names of W&B's own, which begin with ``_``, left out."""
    rows = []
    for record in records_of(folder):
        if record.WhichOneof("record_type") == "history":
            items = [
                (tuple(item.nested_key) or (item.key,), json.loads(item.value_json)) for item in record.history.item
            ]
            rows.append({"/".join(key): value for key, value in items if not key[0].startswith("_")})
    return rows
