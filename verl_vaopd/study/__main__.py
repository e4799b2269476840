"""``python -m verl_vaopd.study``: the runs of a study, those that are not there yet, in the order of their worth."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.runlog.time_left import duration
from verl_vaopd.study.arms import ARMS, Run
from verl_vaopd.study.options import DONE, check_done, check_models, read_options


def wanted(options) -> list[Run]:
    """All runs of a seed come before the next seed's, in the order of cells and arms."""
    sizes = dict(figures=options.figures, updates=options.updates, prompts=options.prompts)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    return [Run(cell, arm, seed, **sizes) for seed in seeds for cell in options.cells for arm in options.arms]


def main(argv: list[str] | None = None) -> int:
    """Do the runs. Returns 0; 1 where a process of several ended with an error; 2 where options do not fit."""
    options = read_options(argv, __doc__.replace("``", ""))
    runs = wanted(options)
    try:
        check_done(runs, options)
        if not options.dry_run:
            check_models(options.models)
    except ValueError as error:
        print(f"python -m verl_vaopd.study: error: {error}", file=sys.stderr)
        return 2
    if options.dry_run:
        print("\n".join(f"{options.output / run.name}  {ARMS[run.arm].title}" for run in runs))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    if options.parallel > 1:
        return several(options.parallel, list(sys.argv[1:] if argv is None else argv))
    return do(runs, options)


def several(count: int, arguments: list[str]) -> int:
    """Processes that take one run after the other from the same list. They end with this one."""
    command = [sys.executable, "-m", "verl_vaopd.study", *arguments, "--parallel", "1"]
    started = [subprocess.Popen(command, preexec_fn=die_with_parent) for _ in range(count)]
    return max(process.wait() != 0 for process in started)


def do(runs: list[Run], options) -> int:
    os.environ.setdefault("VERL_PLATFORM", "cpu")  # before verl is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from verl_vaopd.study.run import Study

    study = Study(options.models, held_out=options.held_out)
    started, here = time.monotonic(), 0
    for number, run in enumerate(runs, start=1):
        folder = options.output / run.name
        for _ in claimed(folder):
            print(f"{time.strftime('%T')}  run {number} of {len(runs)}: {run.name}", flush=True)
            study.do(run, folder)
            here += 1
            left = sum(not (options.output / other.name / DONE).exists() for other in runs)
            seconds = (time.monotonic() - started) / here
            print(f"{time.strftime('%T')}  {left} to go, at most {duration(left * seconds)}", flush=True)
    return 0


def claimed(folder: Path) -> Iterator[None]:
    """Once, if ``folder`` is not done and no other process is at it; what a stopped run left there is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if not (folder / DONE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            yield


if __name__ == "__main__":
    sys.exit(main())
