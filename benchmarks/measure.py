"""What the measurements share: the machine in words, time, peak memory, processes of their own, markdown tables."""

import gc
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
GIB = 2**30


def machine_description(device: str = "cpu", threads: int | None = None) -> str:
    """One line: processor, cores, threads, memory, torch, and whether bf16 products are native; the GPU on CUDA."""
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB, torch {torch.__version__}"
    cpu = dict(_fields("/proc/cpuinfo"))
    flags = cpu.get("flags", cpu.get("Features", "")).split()  # x86, Arm
    native = ", ".join(flag for flag in flags if "bf16" in flag)
    return (
        f"{cpu.get('model name', platform.machine())}, {len(os.sched_getaffinity(0))} cores, "
        f"{threads or torch.get_num_threads()} threads, {_kib('/proc/meminfo', 'MemTotal') / GIB:.1f} GiB, "
        f"torch {torch.__version__}, bf16 products {f'native ({native})' if native else 'not native'}"
    )


def available_memory(device: str = "cpu") -> int:
    """Bytes that can be allocated at present."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else _kib("/proc/meminfo", "MemAvailable")


class PeakMemory:
    """Context manager; ``bytes`` is then the most that was in use inside the block, above what was at its start.

    On the CPU the resident set of this process (Linux only), on CUDA the memory held by tensors.
    """

    def __init__(self, device: str = "cpu"):
        self.cuda = device == "cuda"

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
            self._before = _kib("/proc/self/status", "VmRSS")
        return self

    def __exit__(self, *_) -> None:
        peak = torch.cuda.max_memory_allocated() if self.cuda else _kib("/proc/self/status", "VmHWM")
        self.bytes = max(0, peak - self._before)


@contextmanager
def peak_resident_memory() -> Iterator[Callable[[], float]]:
    """Gives a function that says, after the block, how many MiB this process held at most inside it (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to VmRSS
    peak = []
    yield lambda: peak[0] / 2**20
    peak.append(_kib("/proc/self/status", "VmHWM"))


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Wall-clock time of one call, until the device is done with it."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def run_in_fresh_process(module: str, case: dict) -> dict:
    """Runs ``python -m MODULE --case JSON`` from the repository root and returns the JSON of its last line of output.

    A process that fails gives {"failed": why}, in a few words.
    """
    command = [sys.executable, "-m", module, "--case", json.dumps(case)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if process.returncode == 0:
        return json.loads(process.stdout.splitlines()[-1])
    if process.returncode < 0:
        return {"failed": f"killed by signal {-process.returncode}"}
    return {"failed": (process.stderr.strip().splitlines() or ["no message"])[-1][:120]}


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence], text_columns: int = 1) -> Iterator[str]:
    """Lines of a table; the first ``text_columns`` are left-aligned, the others right-aligned; None is empty."""
    yield f"| {' | '.join(heading)} |"
    yield "|" + "---|" * text_columns + "--:|" * (len(heading) - text_columns)
    for row in rows:
        yield f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |"


def publish(title: str, settings, tables: Iterable[Iterable[str]]) -> None:
    """Prints a page, and writes it to ``settings.save`` if that is given: title, command, machine, date, tables.

    ``settings``: parsed arguments, with ``save`` and, if the benchmark has it, ``threads``.
    """
    spec = sys.modules["__main__"].__spec__
    module = spec.name if spec else "benchmarks"  # none where a test calls from a process of its runner
    lines = [f"# {title}", "", f"`{shlex.join(['python', '-m', module, *sys.argv[1:]])}`, {date.today()}", ""]
    lines.append(machine_description(threads=getattr(settings, "threads", None)))
    for table in tables:
        lines += ["", *table]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if settings.save:
        Path(settings.save).write_text(text)


def _fields(path: str) -> Iterator[tuple[str, str]]:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def _kib(path: str, field: str) -> int:
    """Bytes of a field given in kB."""
    return 1024 * int(dict(_fields(path))[field].split()[0])
