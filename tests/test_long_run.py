"""Hundreds of steps of the tiny recipe: no process grows, nothing is left over, and it gets no slower.

VAOPD_SOAK_STEPS (500) and VAOPD_SOAK_DIR (a temporary folder: where figure and table go) are set by scripts/soak.sh.
"""

import math
import os
import statistics
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.stack import ROOT, read_summary, records

pytestmark = [pytest.mark.stack, pytest.mark.long]

STEPS = int(os.environ.get("VAOPD_SOAK_STEPS", 500))
WARM_UP = STEPS // 5
GROWTH = 1.05
EVERY_S = 5.0


def label(process: psutil.Process) -> str | None:
    """What a process calls itself, or runs; None while it has no name of its own."""
    command = process.cmdline() or [process.name()]
    kind, _, title = command[0].partition("::")
    if title:
        return None if title == "IDLE" else f"{kind}::{title.split('.')[0].split(':')[0]}"
    if not Path(command[0]).name.startswith("python"):
        return Path(command[0]).name
    if "-m" in command:
        return command[command.index("-m") + 1]
    scripts = [Path(part).name for part in command if part.endswith(".py")]
    return scripts[0] if scripts else "resource_tracker" if "resource_tracker" in " ".join(command) else None


class Samples(dict):
    """pid of each process -> (step, resident bytes, open files) every ``EVERY_S`` seconds; and :attr:`names`."""

    def __init__(self):
        self.names: dict[int, str] = {}

    def take(self, pid: int, step: int) -> None:
        for process in psutil.Process(pid).children(recursive=True):
            try:
                self.names[process.pid] = label(process) or self.names.get(process.pid, process.name())
                sample = (step, process.memory_info().rss, process.num_fds())
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            self.setdefault(process.pid, []).append(sample)

    def growth(self, column: int) -> dict[str, tuple[float, float]]:
        """Median in the fifth of the steps after the warm-up, and in the last fifth, of each process there in both."""
        found = {}
        for pid, samples in self.items():
            early = [sample[column] for sample in samples if WARM_UP < sample[0] <= 2 * WARM_UP]
            late = [sample[column] for sample in samples if sample[0] > STEPS - STEPS // 5]
            if early and late:
                found[f"{self.names[pid]} ({pid})"] = (statistics.median(early), statistics.median(late))
        return found


@pytest.fixture(scope="module")
def soaked(tmp_path_factory):
    """The run's folder, and what its processes held."""
    folder = tmp_path_factory.mktemp("soak")
    output, log = folder / "run", folder / "log.txt"
    settings = [
        f"trainer.total_training_steps={STEPS}",
        "data.train_batch_size=8",
        "trainer.max_actor_ckpt_to_keep=2",
        f"trainer.test_freq={STEPS // 5}",
        f"trainer.save_freq={STEPS // 10}",
    ]
    with open(log, "wb") as written:
        process = subprocess.Popen(
            ["bash", "recipes/vaopd_tiny_cpu.sh", *settings],
            cwd=ROOT,
            env={**os.environ, "RUN_DIR": str(output)},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    samples, path = Samples(), output / "metrics.jsonl"
    while process.poll() is None:
        samples.take(process.pid, steps_done(path))
        time.sleep(EVERY_S)
    assert process.returncode == 0, log.read_text()[-6000:]
    report(output, samples, Path(os.environ.get("VAOPD_SOAK_DIR", folder)))
    return output, samples


def steps_done(path: Path) -> int:
    """Lines of ``metrics.jsonl`` that are whole and of a step."""
    return path.read_text().count('"loss":') if path.exists() else 0


def step_seconds(output: Path) -> list[float]:
    """Of each step without a save or a validation."""
    rows = [record for record in records(output) if "loss" in record]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return [row["time/gen"] + row["time/teacher"] + row["time/coefficients"] + row["time/student"] for row in rows]


def test_no_process_grows(soaked):
    _, samples = soaked
    memory, files = samples.growth(1), samples.growth(2)
    for title in ("WorkerDict", "VLLM::", "vLLMHttp", "TaskRunner", "AgentLoop", "TransferQu", "raylet", "gcs_server"):
        assert any(title in name for name in memory), (title, list(memory))
    grown = {
        name: f"{early / 1e6:.0f} MB, then {late / 1e6:.0f}"
        for name, (early, late) in memory.items()
        if late > GROWTH * early
    }
    grown |= {
        f"{name}, open files": (early, late)
        for name, (early, late) in files.items()
        if late > math.ceil(GROWTH * early)
    }
    assert not grown


def test_transfer_queue_is_empty_at_the_end(soaked):
    assert read_summary(soaked[0])["transfer_queue_entries"] == 0


def test_the_last_steps_are_as_fast_as_the_first(soaked):
    """The median of the last fifth lies between the quartiles of the first, widened by a quarter for other work."""
    seconds = step_seconds(soaked[0])
    first, last = seconds[5 : STEPS // 5], seconds[-(STEPS // 5) :]
    low, _, high = statistics.quantiles(first, n=4)
    assert low * 0.75 < statistics.median(last) < high * 1.25


def report(output: Path, samples: Samples, folder: Path) -> None:
    """``long_run.png`` and ``long_run.md`` in ``folder``."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 9), layout="constrained")
    memory, files, speed = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 2])
    for pid, rows in sorted(samples.items(), key=lambda item: -item[1][-1][1]):
        if rows[-1][0] < STEPS // 2:  # a helper of the start
            continue
        steps, resident, opened = zip(*rows, strict=True)
        memory.plot(steps, [value / 2**20 for value in resident], label=samples.names[pid], linewidth=1)
        files.plot(steps, opened, linewidth=1)
    memory.set_ylabel("resident memory, MiB")
    figure.legend(loc="outside right upper", fontsize=7)
    files.set_ylabel("open files")
    seconds = step_seconds(output)
    speed.plot(range(1, STEPS + 1), seconds, linewidth=0.6)
    speed.set_ylabel("seconds a step")
    speed.set_xlabel("step")
    for axis in (memory, files, speed):
        axis.axvline(WARM_UP, color="0.6", linestyle=":")
        axis.set_ylim(bottom=0)
    figure.savefig(folder / "long_run.png", dpi=110)

    fifth = STEPS // 5
    lines = [
        f"{STEPS} steps; medians over steps {WARM_UP + 1} to {2 * WARM_UP} and over the last {fifth}.",
        "",
        "| process | memory, MiB | then | growth | open files | then |",
        "|---|---|---|---|---|---|",
    ]
    opened = samples.growth(2)
    for name, (early, late) in sorted(samples.growth(1).items(), key=lambda item: -item[1][1]):
        before, after = opened[name]
        lines.append(
            f"| {name.split(' (')[0]} | {early / 2**20:.0f} | {late / 2**20:.0f} | {late / early - 1:+.1%} | "
            f"{before:.0f} | {after:.0f} |"
        )
    first, last = statistics.median(seconds[:fifth]), statistics.median(seconds[-fifth:])
    entries = read_summary(output)["transfer_queue_entries"]
    lines += [
        "",
        f"Seconds a step, median of the first and the last {fifth}: {first:.2f}, {last:.2f}. "
        f"Entries in TransferQueue at the end: {entries}.",
    ]
    (folder / "long_run.md").write_text("\n".join(lines) + "\n")
