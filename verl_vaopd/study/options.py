"""The options of ``python -m verl_vaopd.study``, and what is refused before a run begins."""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from verl_vaopd.runlog.study_log import DONE, SETTINGS
from verl_vaopd.study.arms import ARMS, OWN, REGIMES, Cell, Run, is_named
from verl_vaopd.tiny.cache import read_manifest
from verl_vaopd.tiny.tasks import TASKS

WEIGHTS = ("student/model.safetensors", "teacher/model.safetensors")
CELLS = ("frozen-2e-5-160", "frozen-2e-5-0", "frozen-2e-5-40")


def read_options(argv: Sequence[str] | None, about: str) -> argparse.Namespace:
    """The options. argparse ends the process with 2, and a line that names the option, where one is wrong."""
    parser = argparse.ArgumentParser(prog="python -m verl_vaopd.study", description=about, allow_abbrev=False)
    parser.add_argument("--models", type=Path, required=True, help="of `verl-vaopd tiny --task dilution`")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder a run; done ones are kept")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="how many (default 3)")
    parser.add_argument("--first-seed", type=at_least(0), default=1)
    parser.add_argument("--parallel", type=at_least(1), default=1, help="processes (default 1), a core and 2 GB each")
    parser.add_argument(
        "--cells",
        type=cell,
        nargs="+",
        default=[Cell.named(name) for name in CELLS],
        metavar="CELL",
        help=f"REGIME-RATE-WORDS each, as {CELLS[0]}; regimes: {', '.join(REGIMES)}; rate {OWN}: the one of --rates at "
        "which an arm gains most",
    )
    told = f"to choose from where a cell's rate reads {OWN} (default 2e-5 1e-4 5e-4)"
    parser.add_argument("--rates", type=rate, nargs="+", default=[2e-5, 1e-4, 5e-4], metavar="RATE", help=told)
    usual = [name for name, arm in ARMS.items() if arm.usual]
    others = ", ".join(name for name in ARMS if name not in usual)
    told = f"default: {', '.join(usual)}; also {others}, which learn from rewards or from themselves"
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=usual, metavar="ARM", help=told)
    parser.add_argument("--figures", choices=("validation", "test"), default="validation", help="to measure on")
    parser.add_argument("--updates", type=at_least(1), default=30)
    parser.add_argument("--prompts", type=at_least(1), default=4, help="of an update, four answers each")
    parser.add_argument("--held-out", type=at_least(1), default=200, help="figures of a measurement")
    parser.add_argument("--dry-run", action="store_true", help="name the runs, do none")
    options = parser.parse_args(argv)
    if options.figures == "test" and any(cell.rate is None for cell in options.cells):
        parser.error(f"--figures test: rate {OWN} is chosen on these figures; measure such cells on validation")
    return options


def at_least(least: int) -> Callable[[str], int]:
    """A whole number, for argparse."""

    def number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more, got {text!r}")
        return int(text)

    return number


def cell(name: str) -> Cell:
    """As ``Cell.named``, for argparse."""
    try:
        return Cell.named(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rate(text: str) -> float:
    """A rate that a cell's name can say, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not is_named(number):
        raise argparse.ArgumentTypeError(f"must be a number above 0 of at most six digits, got {text!r}")
    return number


def check_done(runs: list[Run], options) -> None:
    """Raises:
    ValueError: a run that is done was done with other options.
    """
    for run in runs:
        folder = options.output / run.name
        if not (folder / DONE).exists():
            continue
        try:
            done = json.loads((folder / SETTINGS).read_text())
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"{folder / SETTINGS} is damaged ({error}): remove {folder}, it is done again") from error
        for name in ("updates", "prompts", "held_out"):
            # Runs of earlier versions do not say held_out.
            if name in done and done[name] != getattr(options, name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(
                    f"{folder} was done with {option} {done[name]}, not {getattr(options, name)}: give {option} "
                    f"{done[name]}, choose another --output (the recipe's STUDY_DIR), or remove it"
                )
        # Nor which models they are of.
        here = all((options.models / name).exists() for name in WEIGHTS)
        if here and "models" in done and done["models"] != digest(options.models):
            raise ValueError(
                f"{folder} was done with other models than those of {options.models}, made by another version or on "
                "another processor: choose another --output (the recipe's STUDY_DIR), or remove it"
            )


@cache
def digest(models: Path) -> str:
    """Of the weights of student and teacher: which models a run is of."""
    return hashlib.sha256(b"".join((models / name).read_bytes() for name in WEIGHTS)).hexdigest()[:16]


def check_models(folder: Path) -> None:
    """Raises:
    ValueError: no models of the diluted task are there.
    """
    if read_manifest(folder, TASKS["dilution"]) is None:
        raise ValueError(
            f"--models {folder} holds no models of the diluted task: verl-vaopd tiny --task dilution --output {folder} "
            "makes them"
        )
