"""One conversion under way: bad rows, ids and counts it has met, the files it has written so far."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from verl_vaopd.data.bad_rows import BadRow, ConversionError, RowError, by_reason, report
from verl_vaopd.data.manifest import partial, publish
from verl_vaopd.data.rows import RowWriter
from verl_vaopd.data.sources import Source
from verl_vaopd.data.text import cell


@dataclass
class Conversion:
    """What ``finish`` turns into a manifest. ``on_error``: stop or skip."""

    output: Path
    on_error: str
    bad: list[BadRow] = field(default_factory=list)
    warnings: list[BadRow] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)  # why -> ids of good rows that are not used
    notes: list[str] = field(default_factory=list)
    upstream: dict[str, int] = field(default_factory=dict)  # rows of each split of the source
    upstream_sizes: bool = True  # are they those of the release on the hub?
    ids: dict[str, list[str]] = field(default_factory=dict)  # of the rows written
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"note: {text}")

    def check_size(self, source: Source, split: str, rows: int, expected: int) -> None:
        """Note a local copy of another size than upstream's.

        Raises:
            ConversionError: the hub has another number of rows.
        """
        self.upstream[f"{source.repository}/{split}"] = rows
        if rows == expected:
            return
        text = f"{source.repository} has {rows:,} {split} rows, {expected:,} are expected"
        if not source.local:
            raise ConversionError(
                f"{text}: commit {source.revision} is another release. Pin the one you want with --revision, or "
                "download it and give it with --source"
            )
        self.upstream_sizes = False
        self.note(f"{text} (local copy {source.folder})")

    def check_id(self, split: str, value, name: str) -> None:
        """Refuse a row (RowError) without an id (text or an integer), or with that of an earlier row of the split."""
        mend = "give every row its own id in the source or leave the row out with --on-error skip"
        if cell(value, name, str, int) in (None, ""):
            raise RowError(name, "missing_id", "is empty", mend)
        if (split, str(value)) in self._seen:
            raise RowError(name, "duplicate_id", f"{str(value)!r} is the id of an earlier row", mend)
        self._seen.add((split, str(value)))

    def progress(self, rows: Iterable, total: int, name: str) -> Iterator:
        """The rows, counted on a bar; a line every 30 s where the output is no terminal."""
        return tqdm(rows, name, total, unit="row", mininterval=0.2 if sys.stderr.isatty() else 30, miniters=1)

    def write(self, split: str, rows: Iterable[dict]) -> None:
        """Write the rows to the split's partial file, a group at a time."""
        with RowWriter(partial(self.output, f"{split}.parquet")) as writer:
            for row in rows:
                writer.write(row)
        self.ids[split] = writer.ids

    def stop_at_bad_rows(self) -> None:
        """Raises ConversionError, which lists them, if there are any and ``on_error`` is stop."""
        if self.bad and self.on_error == "stop":
            end = "Nothing was written. Mend the source, or leave these rows out with --on-error skip."
            raise ConversionError(f"{report(self.bad, 'bad rows')}\n{end}")

    def failure(self, text: str) -> ConversionError:
        """An error that also tells what has become of rows so far."""
        told = [f"{len(ids):,} rows were dropped ({why})" for why, ids in self.dropped.items() if ids]
        return ConversionError("\n".join([text, *told, *([report(self.bad, "bad rows")] if self.bad else [])]))

    def finish(self, manifest: dict) -> None:
        """Publish the files and the manifest.

        Raises:
            ConversionError: bad rows and ``on_error`` is stop, or a file without any row.
        """
        self.stop_at_bad_rows()
        empty = [split for split, ids in self.ids.items() if not ids]
        if empty:
            raise self.failure(f"{empty[0]} has no good row: nothing was written")
        for findings, heading in ((self.bad, "bad rows left out"), (self.warnings, "warnings, rows kept")):
            if findings:
                print(report(findings, heading))
        counts = {
            "counts": {split: len(ids) for split, ids in self.ids.items()},
            "upstream_rows": self.upstream,
            "upstream_sizes": self.upstream_sizes,
            "on_error": self.on_error,
            "left_out": by_reason(self.bad),
            "dropped": {why: {"count": len(ids), "ids": ids} for why, ids in self.dropped.items()},
            "warnings": by_reason(self.warnings),
            "notes": self.notes,
            "ids": self.ids,
        }
        publish(self.output, [f"{split}.parquet" for split in self.ids], manifest | counts)
