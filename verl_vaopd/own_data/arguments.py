"""The command line of ``verl-vaopd data convert``, of which some options belong to the source before them."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_vaopd.own_data.fields import FieldMap, parse_map

EXAMPLE = """\
  verl-vaopd data convert --from rows.jsonl --map question=question,answer=answer,image=file --output data/own
  verl-vaopd data convert --from a.jsonl --weight 2 --from b.parquet --map question=q,answer=a --output data/own

--map and --image-root given once hold for every source; given more often, each belongs to the --from before it, as
--weight always does. A folder that is complete is verified and left as it is. docs/own_data.md tells the rest."""


@dataclass
class Asked:
    """One ``--from`` with what belongs to it."""

    given: str
    fields: FieldMap | None = None
    root: Path | None = None
    weight: float | None = None


class _InOrder(argparse.Action):
    def __call__(self, parser, namespace, value, option=None):
        namespace.in_order.append((self.dest, value))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """``sources`` of the namespace is a list of :class:`Asked`. Bad usage ends with a message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="verl-vaopd data convert",
        description="Write rows of your own as train.parquet (and validation.parquet) with manifest.json.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(in_order=[])
    order = {"action": _InOrder, "default": argparse.SUPPRESS}
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        **order,
        help="FILE.jsonl, FILE.parquet or hub:NAME[:SPLIT]; one or more",
    )
    parser.add_argument(
        "--map",
        **order,
        type=_map,
        metavar="question=F,answer=F[,image=F][,id=F]",
        help="fields: a, a.b, a[0].b, a[].b",
    )
    parser.add_argument(
        "--image-root", **order, type=Path, help="what paths of images start from; default: FILE's folder"
    )
    parser.add_argument("--weight", **order, type=_weight, help="times that each row comes in training; default: 1")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--validation", type=_rows, default=0, metavar="N", help="rows split off for validation")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; default: 0")
    parser.add_argument("--revision", help="branch, tag or commit of a hub: source; default: main")
    parser.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="bad rows; default: stop")
    args = parser.parse_args(argv)
    try:
        args.sources = _assigned(args.in_order)
    except ValueError as error:
        parser.error(str(error))
    if args.revision and sum(asked.given.startswith("hub:") for asked in args.sources) != 1:
        parser.error("--revision needs exactly one hub: source")
    return args


def _assigned(in_order: list[tuple[str, object]]) -> list[Asked]:
    """The sources with their options.

    Raises:
        ValueError: none, a source without a map, or an option that belongs to none.
    """
    sources: list[Asked] = []
    options = {"map": "fields", "image_root": "root", "weight": "weight"}
    once = {name for name in ("map", "image_root") if [given for given, _ in in_order].count(name) == 1}
    for name, value in in_order:
        option = f"--{name.replace('_', '-')}"
        if name == "source":
            sources.append(Asked(value))
        elif name not in once:
            if not sources:
                raise ValueError(f"{option} belongs to the --from before it: there is none")
            if getattr(sources[-1], options[name]) is not None:
                raise ValueError(f"{option} is given twice for --from {sources[-1].given}")
            setattr(sources[-1], options[name], value)
    for name, value in in_order:
        if name in once:
            for asked in sources:
                setattr(asked, options[name], value)
    if not sources:
        raise ValueError("the following arguments are required: --from")
    for asked in sources:
        if asked.fields is None:
            raise ValueError(f"--from {asked.given} has no --map: give one behind it, or a single one for all sources")
        asked.weight = 1.0 if asked.weight is None else asked.weight
    return sources


def _map(text: str) -> FieldMap:
    try:
        return parse_map(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _weight(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def _rows(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value
