"""Good rows dealt out: a validation part by seed, the rest to training as often as their source's weight says.

A draw depends on the seed and on each row's id alone: a row more, or a bad one, changes few other choices.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.image_column import read_rows
from verl_vaopd.data.manifest import partial
from verl_vaopd.data.rows import SCHEMA, RowWriter
from verl_vaopd.data.virl39k import without
from verl_vaopd.own_data.rows import OwnSource, rows_of


def write_parts(conversion: Conversion, sources: list[OwnSource], validation: int, seed: int) -> None:
    """Write ``train`` and, of ``validation`` > 0 rows, ``validation``.

    A training row of a source of weight W comes W times, as ID, ID#2 and so on; of a fraction, the seed draws the rows
    that come once more. All first copies lie before all second ones. A training row whose question and pixels are
    those of a validation row is dropped and counted.

    Raises:
        ConversionError: bad rows and on_error is stop, or the validation part leaves nothing to train on.
    """
    if not validation and all(source.weight == 1 for source in sources):
        conversion.write("train", (row for source in sources for row in rows_of(source, conversion)))
        return
    aside, rows_until = partial(conversion.output, "all.parquet"), [0]
    with RowWriter(aside) as writer:
        for source in sources:
            for row in rows_of(source, conversion):
                writer.write(row)
            rows_until.append(len(writer.ids))
    conversion.stop_at_bad_rows()
    ids = writer.ids
    if validation and validation >= len(ids):
        text = f"--validation {validation} leaves nothing to train on: there are {len(ids):,} good rows"
        raise conversion.failure(text)

    def drawn(places: Iterable[int], count: int, purpose: str) -> list[int]:
        return heapq.nsmallest(count, places, key=lambda place: _lot(f"{purpose}/{seed}/{ids[place]}"))

    held_out = set(drawn(range(len(ids)), validation, "validation"))
    dropped: set[str] = set()
    if held_out:
        rows = (row for place, row in enumerate(_read(aside)) if place in held_out)
        conversion.write("validation", (_with_info(row, split="validation") for row in rows))
        rows = (row for place, row in enumerate(_read(aside)) if place not in held_out)
        shown = conversion.progress(rows, len(ids) - len(held_out), "compared with the validation part")
        held_out_rows = (row for place, row in enumerate(_read(aside)) if place in held_out)
        for _ in without(shown, held_out_rows, conversion):
            pass
        dropped = {row_id for found in conversion.dropped.values() for row_id in found}
    copies = [0] * len(ids)
    for source, start, end in zip(sources, rows_until, rows_until[1:], strict=False):
        kept = [place for place in range(start, end) if place not in held_out and ids[place] not in dropped]
        whole, part = divmod(source.weight, 1)
        for place in kept:
            copies[place] = int(whole)
        for place in drawn(kept, round(part * len(kept)), "weight"):
            copies[place] += 1
    rows = (
        _with_info(row, id=f"{ids[place]}#{copy + 1}") if copy else row
        for copy in range(max(copies, default=0))
        for place, row in enumerate(_read(aside))
        if copies[place] > copy
    )
    conversion.write("train", conversion.progress(rows, sum(copies), "train"))


def _read(path: Path) -> Iterator[dict]:
    table = pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)  # else what was read stays in memory
    yield from read_rows(table, SCHEMA.names, range(table.num_row_groups))


def _with_info(row: dict, **changes) -> dict:
    return row | {"extra_info": row["extra_info"] | changes}


def _lot(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
