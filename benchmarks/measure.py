"""What the benchmarks share: the machine's name, peak memory, tables."""

import datetime
import os
import shlex
import sys

import psutil


def machine_description() -> str:
    """Processor, cores, memory and torch, in one line."""
    import torch

    with open("/proc/cpuinfo") as f:
        lines = dict(line.split(":", 1) for line in f if ":" in line)
    model = lines.get("model name\t", "unknown processor").strip()
    memory = psutil.virtual_memory().total / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB{gpu}, torch {torch.__version__}"


def heading(title: str) -> str:
    """Title, machine, date and the command that is running."""
    module = sys.modules["__main__"].__spec__.name
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    return f"## {title}\n\n`{command}`  \n{machine_description()}; {datetime.date.today()}\n\n"


def markdown_table(titles: list, rows: list[list]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def save_or_print(text: str, path: str | None) -> None:
    """Print, and append to the file if one is given."""
    print(text)
    if path:
        with open(path, "a") as f:
            f.write(text + "\n")


class PeakMemory:
    """Peak resident memory of this process while the block ran, MiB: ``peak`` in all, ``rise`` above its beginning.

    The kernel's own high-water mark (VmHWM), reset on entry. Memory that the process already held and reuses is in
    ``peak`` but not in ``rise``.
    """

    def __enter__(self):
        self._before = psutil.Process().memory_info().rss / 2**20
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
        return self

    def __exit__(self, *_):
        with open("/proc/self/status") as f:
            self.peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
        self.rise = self.peak - self._before
