"""Small files in exactly the formats of hiyouga/geometry3k and TIGER-Lab/ViRL39K."""

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(colour, size=(32, 32), kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG header of that size and hardly any data."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def problem(number: int, **changes) -> dict:
    """A row of Geometry3K; each number has a colour of its own."""
    colour = (number % 256, number // 256, 100)
    return {
        "images": [{"bytes": encoded(colour), "path": None}],
        "problem": f"<image>Find x in figure {number}.",
        "answer": f"{number}",
        "id": f"g{number}",
        "choices": ["1", "2", "3", "4"],
        "ground_truth": "A",
    } | changes


def write_geometry3k(folder: Path, train=None, validation=None, test=None) -> Path:
    """A copy of the repository: 3 training rows, 2 validation and 1 test rows if not given. Returns the folder."""
    from datasets import Features, Image, Sequence, Value

    text = Value("string")
    features = Features(
        {
            "images": Sequence(Image()),
            "problem": text,
            "answer": text,
            "id": text,
            "choices": Sequence(text),
            "ground_truth": text,
        }
    )
    splits = {
        "train": train or [problem(n) for n in (1, 2, 3)],
        "validation": validation or [problem(n) for n in (11, 12)],
        "test": test or [problem(21)],
    }
    (folder / "data").mkdir(parents=True)
    for split, rows in splits.items():
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)  # with datasets' own metadata
        pq.write_table(table, folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def question(number: int, **changes) -> dict:
    """A row of ViRL39K with one image."""
    return {
        "question": f"<image>What is shown in picture {number}?",
        "answer": f"\\boxed{{{number}}}",
        "PassRate_32BTrained": 0.5,
        "PassRate_7BBase": None,
        "category": "(GradeSchool) Geometric",
        "source": "MMK12",
        "qid": f"v{number}",
        "image": [f"images/v{number}-0.png"],
    } | changes


def link(name: str, target: str, kind: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, bytes]:
    """A symbolic link, or a member of another ``kind``, of an archive."""
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member, target.encode()


def write_virl39k(folder: Path, rows: list[dict], members: dict | None = None, links=()) -> Path:
    """A copy of the repository: the table, and an archive of ``members`` (default: a picture for every row)."""
    text = pa.string()
    types = {
        "question": text,
        "answer": text,
        "PassRate_32BTrained": pa.float64(),
        "PassRate_7BBase": pa.float64(),
        "category": text,
        "source": text,
        "qid": text,
        "image": pa.list_(text),
    }
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types)), folder / "39Krelease.parquet")
    if members is None:
        members = {}
        for place, name in enumerate(name for row in rows for name in row["image"] or []):
            members[name] = encoded((place, 200, 0))
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
        for member, target in links:
            archive.writestr(member, target)
    return folder


def in_hub_cache(cache: Path, repository: str, commit: str, write) -> None:
    """Puts what ``write(folder)`` makes where a download of ``main`` would have left it."""
    entry = cache / f"datasets--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True, exist_ok=True)
    (entry / "refs/main").write_text(commit)
    write(entry / "snapshots" / commit)


def rows_in(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Name -> bytes and time of change of every file; the lock aside."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.name != ".lock"
    }
