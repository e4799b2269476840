"""``python -m verl_vaopd.study``: the runs of a study, those that are not there yet, in the order of their worth."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.runlog.study_log import DONE
from verl_vaopd.runlog.time_left import duration
from verl_vaopd.study.arms import ARMS, OWN, Run
from verl_vaopd.study.options import check_done, check_models, read_options
from verl_vaopd.study.rates import at_its_own_rate, mark, trials

if TYPE_CHECKING:
    from verl_vaopd.study.run import Study


def wanted(options) -> list[Run]:
    """All runs of a seed come before the next seed's, in the order of cells and arms; what is named twice is one."""
    sizes = dict(figures=options.figures, updates=options.updates, prompts=options.prompts)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs = [Run(cell, arm, seed, **sizes) for seed in seeds for cell in options.cells for arm in options.arms]
    return list(dict.fromkeys(runs))


def told(run: Run, output: Path) -> str:
    """A run's folder and its arm; of one whose rate is still to be chosen, that its folder will have another name."""
    chosen = f" (in place of {OWN}: the rate chosen above)" if run.cell.rate is None else ""
    return f"{output / run.name}  {ARMS[run.arm].title}{chosen}"


def main(argv: list[str] | None = None) -> int:
    """Do the runs. Returns 0; 1 where a process of several ended with an error; 2 where options do not fit."""
    options = read_options(argv, __doc__.replace("``", ""))
    runs = wanted(options)
    tried = trials(runs, options.rates)
    try:
        check_done(tried + runs, options)
        if not options.dry_run:
            check_models(options.models)
    except ValueError as error:
        return refused(error)
    if options.dry_run:
        print("\n".join(told(run, options.output) for run in tried + runs))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    if options.parallel > 1:
        return several(options.parallel, list(sys.argv[1:] if argv is None else argv))
    return do(runs, options)


def refused(error: ValueError) -> int:
    print(f"python -m verl_vaopd.study: error: {error}", file=sys.stderr)
    return 2


def several(count: int, arguments: list[str]) -> int:
    """Processes that take one run after the other from the same list. They end with this one."""
    command = [sys.executable, "-m", "verl_vaopd.study", *arguments, "--parallel", "1"]
    started = [subprocess.Popen(command, preexec_fn=die_with_parent) for _ in range(count)]
    return max(process.wait() != 0 for process in started)


def do(runs: list[Run], options) -> int:
    """First what chooses rates, to its end, in whichever process it is; then the runs."""
    os.environ.setdefault("VERL_PLATFORM", "cpu")  # before verl is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from verl_vaopd.study.run import Study

    work = Work(Study(options.models, held_out=options.held_out), options.output)
    tried = trials(runs, options.rates)
    work.do(tried, later=runs)
    work.do(tried, later=runs, wait=True)
    chosen = [at_its_own_rate(run, options.rates, options.output) for run in runs]
    try:
        check_done([run for run, _ in chosen], options)
    except ValueError as error:
        return refused(error)
    work.do([run for run, _ in chosen], before=tried)
    for run, gains in chosen:
        mark(run, gains, options.output)
    return 0


@dataclass
class Work:
    """Runs, one after the other, with what is left. study: does them; output: where their folders are."""

    study: "Study"
    output: Path
    started: float = field(default_factory=time.monotonic)
    here: int = 0

    def do(self, runs: list[Run], before: Sequence[Run] = (), later: Sequence[Run] = (), wait: bool = False) -> None:
        """Those that no process did or is at. before, later: told in the count. wait: for those that one is at, too."""
        known = [*before, *runs, *later]
        for number, run in enumerate(runs, start=len(before) + 1):
            folder = self.output / run.name
            for _ in claimed(folder, wait):
                print(f"{time.strftime('%T')}  run {number} of {len(known)}: {run.name}", flush=True)
                self.study.do(run, folder)
                self.here += 1
                left = sum(not (self.output / other.name / DONE).exists() for other in known)
                seconds = (time.monotonic() - self.started) / self.here
                print(f"{time.strftime('%T')}  {left} to go, at most {duration(left * seconds)}", flush=True)


def claimed(folder: Path, wait: bool = False) -> Iterator[None]:
    """Once, if ``folder`` is not done and no other process is at it, or was, with ``wait``, and left it undone; what a
    stopped run left there is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return
        if not (folder / DONE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            yield


if __name__ == "__main__":
    sys.exit(main())
