"""``verl-vaopd data convert``: rows of any shape become checked parquet with a manifest, or nothing."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from verl_vaopd.data.__main__ import reported, summary
from verl_vaopd.data.bad_rows import SourceError
from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.manifest import damaged_files, locked, read_manifest
from verl_vaopd.data.sources import sha256
from verl_vaopd.own_data.arguments import Asked, parse
from verl_vaopd.own_data.parts import write_parts
from verl_vaopd.own_data.rows import OwnSource
from verl_vaopd.own_data.tables import HUB, hub_name, open_table

DATASET = "own"


def named(sources: list[Asked]) -> dict[str, Asked]:
    """The sources by the name that their rows get: the file's or the data set's, with ``-2`` where it is taken."""
    names: dict[str, Asked] = {}
    for asked in sources:
        if asked.given.startswith(HUB):
            path, split = hub_name(asked.given)
            stem = Path(path).name + ("" if split == "train" else f"-{split.replace('/', '-')}")
        else:
            stem = Path(asked.given).stem
        free = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
        names[next(name for name in free if name not in names)] = asked
    return names


def record_of(asked: Asked) -> dict:
    """What is asked of a source, as the manifest keeps it."""
    return {
        "from": asked.given if asked.given.startswith(HUB) else str(Path(asked.given).resolve()),
        "map": asked.fields.text,
        "image_root": str(asked.root.resolve()) if asked.root else None,
        "weight": asked.weight,
    }


def refuse_other_settings(args: Namespace, manifest: dict) -> None:
    """Raises SourceError: the finished folder was made with other settings, or its source has changed since."""
    other = f"remove {args.output} or choose another --output"
    made = manifest["validation"]
    for option, asked in (("rows", args.validation), ("seed", args.seed)):
        if made[option] != asked:
            name = {"rows": "--validation", "seed": "--seed"}[option]
            raise SourceError(f"{args.output} was made with {name} {made[option]}, not {asked}: {other}")
    sources = named(args.sources)
    if list(sources) != list(manifest["sources"]):
        raise SourceError(
            f"{args.output} was made from {', '.join(manifest['sources'])}, not {', '.join(sources)}: {other}"
        )
    for name, record in manifest["sources"].items():
        for option, asked in record_of(sources[name]).items():
            if record[option] != asked:
                raise SourceError(
                    f"{args.output} was made from {name} with --{option.replace('_', '-')} {record[option]}, "
                    f"not {asked}: {other}"
                )
        revisions = [record["revision"], record["requested_revision"]]
        if record["revision"] and args.revision and args.revision not in revisions:
            raise SourceError(f"{args.output} was made from revision {revisions[0]}, not {args.revision}: {other}")
        for file, digest in record["files"].items() if record["folder"] else ():
            path = Path(record["folder"]) / file
            if path.is_file() and sha256(path) != digest:
                raise SourceError(f"{path} has changed since {args.output} was made from it: {other}")


def convert(args: Namespace, manifest: dict | None) -> None:
    """Read the sources, write the files, publish them; of the commits that ``manifest`` names, if there is one."""
    records, sources = {}, []
    for name, asked in named(args.sources).items():
        if asked.root and not asked.root.is_dir():
            raise SourceError(f"--image-root {asked.root} is no folder")
        table = open_table(asked.given, args.revision, manifest["sources"][name]["revision"] if manifest else None)
        records[name] = table.source.record(list(table.files)) | record_of(asked)
        sources.append(OwnSource(name, table, asked.fields, asked.root or table.root, asked.weight))
    conversion = Conversion(args.output, manifest["on_error"] if manifest else args.on_error)
    write_parts(conversion, sources, args.validation, args.seed)
    validation = {"from": ", ".join(records), "rows": args.validation, "seed": args.seed}
    conversion.finish({"dataset": DATASET, "sources": records, "validation": validation})


def prepare(args: Namespace) -> str:
    """Verify what is there, else convert. Returns the summary."""
    manifest = read_manifest(args.output, DATASET)
    damaged = {}
    if manifest:
        refuse_other_settings(args, manifest)
        damaged = damaged_files(args.output, manifest)
        if not damaged:
            for note in manifest["notes"]:
                print(f"note: {note}")
            return summary(args.output, manifest, "complete, checksums verified")
    with locked(args.output):
        for name, wrong in damaged.items():
            print(f"{args.output / name} {wrong}: all files are made anew from the same source")
        convert(args, manifest)
    return summary(args.output, read_manifest(args.output, DATASET), "written")


def main(argv: Sequence[str]) -> int:
    """Exit code 0: written or verified; 1: bad rows or another failure; 2: bad usage or no such source; 130: Ctrl-C."""
    args = parse(argv)
    return reported(lambda: prepare(args))
