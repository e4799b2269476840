"""``python -m verl_vaopd.tiny``: make the tiny teacher, student and data once, then find them made."""

import argparse
import os
import sys
import time
from pathlib import Path

from verl_vaopd.tiny.cache import build_aside, check_replaced, fingerprint, read_manifest
from verl_vaopd.tiny.tasks import TASKS


def main(argv: list[str] | None = None) -> int:
    """Make ``teacher/``, ``student/``, ``data/*.parquet`` and ``manifest.json`` in a folder, unless it holds them.

    Returns:
        0, or 1 after an error that is printed.
    """
    parser = argparse.ArgumentParser(
        prog="verl-vaopd tiny",
        description="Make the tiny Qwen3-VL teacher and student and their synthetic data, once: about two minutes on "
        "two cores for the figures, several times that for the other tasks. A second call finds them and returns.",
    )
    tasks = "; ".join(f"{task.name}: {task.about}" for task in TASKS.values())
    parser.add_argument("--task", choices=TASKS, default="figures", metavar="NAME", help=f"{tasks} (default figures)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make or check")
    parser.add_argument("--seed", type=int, default=0, help="of data, training and noise (default 0)")
    parser.add_argument("--force", action="store_true", help="make everything anew")
    parser.add_argument("--random", action="store_true", help="untrained models and a few rows, for tests")
    options = parser.parse_args(argv)

    task = TASKS[options.task]
    wanted = fingerprint(options.seed, trained=not options.random, task=task)
    try:
        manifest = read_manifest(options.output, task)
        check_replaced(options.output, wanted)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if manifest is not None and manifest["fingerprint"] == wanted and not options.force:
        print(f"{options.output}: complete{_shown(manifest['measured'])}")
        return 0
    # Before torch is imported: threads that spin while they wait are ten times slower when other processes run.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    started = time.monotonic()
    print(f"{options.output}: making models and data{'' if options.random else ', once: some minutes'}", flush=True)
    try:
        from transformers.utils import logging

        logging.disable_progress_bar()  # of the two files of weights

        make = task.make(trained=not options.random)
        manifest = build_aside(options.output, wanted, lambda folder: make(folder, options.seed))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: made in {time.monotonic() - started:.0f} s{_shown(manifest['measured'])}")
    return 0


def _shown(measured: dict[str, float]) -> str:
    """The two figures that say what the models are like."""
    if not measured:
        return ""
    return f" (held-out figures read right: teacher {measured['teacher']:.1%}, student {measured['student']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
