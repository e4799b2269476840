"""A JSONL file that a killed process leaves readable: whole lines count, a torn last one is cut off."""

import json
import os
from pathlib import Path


class Journal:
    """Records by their ``key``, appended one by one; the newest of a key counts.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, path: Path):
        self.records: dict[str, dict] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        whole, _, _torn = path.read_bytes().rpartition(b"\n")
        for line in whole.split(b"\n") if whole else ():
            record = json.loads(line)
            self.records[record["key"]] = record
        self._file.truncate(len(whole) + bool(whole))

    def append(self, record: dict) -> None:
        """Write a record. What fits of a line that meets a full disk is taken back."""
        line = json.dumps(record).encode() + b"\n"
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            self._file.truncate(end)
            raise
        self.records[record["key"]] = record

    def close(self) -> None:
        self._file.close()
