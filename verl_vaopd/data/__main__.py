"""``verl-vaopd data``: fetch Geometry3K or ViRL39K and write verl's parquet files with a manifest."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from verl_vaopd.data import geometry3k, virl39k
from verl_vaopd.data.bad_rows import ConversionError, SourceError
from verl_vaopd.data.conversion import Conversion
from verl_vaopd.data.manifest import damaged_files, locked, read_manifest
from verl_vaopd.data.sources import Source, from_hub, local_copy

MAIN_REPOSITORY = {"geometry3k": geometry3k.REPOSITORY, "virl39k": virl39k.REPOSITORY}
FILES = {
    geometry3k.REPOSITORY: {"geometry3k": [geometry3k.pattern("*")], "virl39k": [geometry3k.pattern("validation")]},
    virl39k.REPOSITORY: {"virl39k": [virl39k.TABLE, virl39k.ARCHIVE]},
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verl-vaopd data",
        description="Fetch a data set and write train.parquet, validation.parquet (and test.parquet), manifest.json.",
        epilog="A folder that is complete is verified and left as it is. docs/data.md tells the rest. "
        "Rows of your own: verl-vaopd data convert --help.",
    )
    parser.add_argument("dataset", choices=list(MAIN_REPOSITORY))
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--source", type=Path, help="a local copy laid out as on the hub; default: download")
    parser.add_argument("--revision", help="branch, tag or commit of the data set on the hub; default: main")
    parser.add_argument(
        "--geometry3k-source",
        type=Path,
        help="virl39k: local copy of Geometry3K, whose validation rows are used; default: SOURCE/geometry3k if there",
    )
    parser.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="bad rows; default: stop")
    args = parser.parse_args(argv)
    if args.revision and args.source:
        parser.error("--revision is the hub's: give it without --source")
    if args.geometry3k_source and args.dataset != "virl39k":
        parser.error("--geometry3k-source belongs to virl39k: use --source")
    return args


def local_folders(args: argparse.Namespace) -> dict[str, Path]:
    """repository -> the local copy asked for, for those that have one."""
    folders = {MAIN_REPOSITORY[args.dataset]: args.source}
    if args.dataset == "virl39k":
        beside = args.source / "geometry3k" if args.source else None
        folders[geometry3k.REPOSITORY] = args.geometry3k_source or (beside if beside and beside.is_dir() else None)
    return {repository: folder for repository, folder in folders.items() if folder}


def refuse_other_settings(args: argparse.Namespace, manifest: dict) -> None:
    """Raises SourceError: the finished folder was made with other settings than those given now.

    An option that is left out accepts what is there, but for a local copy that is not of upstream's size.
    """
    other = f"remove {args.output} or choose another --output"
    sources, asked = manifest["sources"], local_folders(args)
    revisions = [sources[MAIN_REPOSITORY[args.dataset]][key] for key in ("revision", "requested_revision")]
    if args.revision and args.revision not in revisions:
        raise SourceError(f"{args.output} was made from revision {revisions[0]}, not {args.revision}: {other}")
    for repository, record in sources.items():
        if repository in asked and str(asked[repository].resolve()) != record["folder"]:
            made = record["folder"] or f"the hub, commit {record['revision']}"
            raise SourceError(f"{args.output} was made from {made}, not from {asked[repository]}: {other}")
        if repository not in asked and record["folder"] and not manifest["upstream_sizes"]:
            raise SourceError(
                f"{args.output} was made from {record['folder']}, which is not the whole data set: "
                f"name it again to use these files, or {other}"
            )


def open_sources(args: argparse.Namespace, manifest: dict | None) -> dict[str, Source]:
    """repository -> source; as in the manifest where there is one, so that what is written anew is the same."""
    folders, sources = local_folders(args), {}
    for repository, files in FILES.items():
        if args.dataset not in files:
            continue
        asked = args.revision if repository == MAIN_REPOSITORY[args.dataset] else None
        made = {"folder": None, "revision": None, "requested_revision": asked or "main"}
        made |= manifest["sources"][repository] if manifest else {}
        if folder := folders.get(repository) or made["folder"]:
            sources[repository] = local_copy(repository, folder)
        else:
            sources[repository] = from_hub(
                repository, files[args.dataset], made["requested_revision"], commit=made["revision"]
            )
    return sources


def convert(args: argparse.Namespace, sources: dict[str, Source], on_error: str) -> None:
    """Read the sources, write the files, publish them."""
    records = {
        repository: source.record([path for name in FILES[repository][args.dataset] for path in source.find(name)])
        for repository, source in sources.items()
    }
    conversion = Conversion(args.output, on_error)
    if args.dataset == "geometry3k":
        geometry3k.convert(conversion, sources[geometry3k.REPOSITORY])
    else:
        virl39k.convert(conversion, sources[virl39k.REPOSITORY], sources[geometry3k.REPOSITORY])
    conversion.finish({"dataset": args.dataset, "sources": records, "validation": geometry3k.SELECTION})


def summary(output: Path, manifest: dict, done: str) -> str:
    """One line: rows of each file, rows not used, where they come from."""
    rows = ", ".join(f"{count:,} {split}" for split, count in manifest["counts"].items())
    unused = sum(entry["count"] for key in ("left_out", "dropped") for entry in manifest[key].values())
    sources = [f"{name} {record['revision'] or record['folder']}" for name, record in manifest["sources"].items()]
    return f"{output}: {done}; rows: {rows}; not used: {unused:,}; from {', '.join(sources)}"


def prepare(args: argparse.Namespace) -> str:
    """Verify what is there, else convert. Returns the summary."""
    manifest = read_manifest(args.output, args.dataset)
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
        convert(args, open_sources(args, manifest), manifest["on_error"] if manifest else args.on_error)
    return summary(args.output, read_manifest(args.output, args.dataset), "written")


def reported(work: Callable[[], str]) -> int:
    """Print what ``work`` returns, or why it failed.

    Returns:
        Exit code 0: written or verified; 1: bad rows or another failure; 2: no such source; 130: Ctrl-C.
    """
    try:
        print(work())
    except SourceError as error:
        print(f"verl-vaopd data: {error}", file=sys.stderr)
        return 2
    except (ConversionError, OSError) as error:
        print(f"verl-vaopd data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("verl-vaopd data: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes of ``reported``; 2 also for bad usage."""
    args = parse(argv)
    return reported(lambda: prepare(args))


if __name__ == "__main__":
    raise SystemExit(main())
