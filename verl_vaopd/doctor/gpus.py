"""Driver and GPUs, as nvidia-smi tells them."""

import re
import shutil
import subprocess
from pathlib import Path

from verl_vaopd.doctor.finding import GB, Finding

OLDEST_DRIVER = {12: 525, 13: 580}
"""CUDA major version -> oldest driver branch (NVIDIA, CUDA compatibility, minor version compatibility)."""
FIELDS = ("name", "memory.total", "driver_version", "compute_cap")
INSTALL = "install NVIDIA's driver, in a container the NVIDIA container toolkit and --gpus all; or use --cpu"
MIB = 2**20


def number(text: str) -> float | None:
    """What nvidia-smi shows, which may be ``[N/A]``, ``[Not Supported]`` or an error."""
    told = re.match(r"\d+(\.\d+)?", text)
    return float(told[0]) if told else None


def cuda_of_wheels(requirements: Path) -> int:
    """CUDA major version that the pinned wheels are built for."""
    return int(re.search(r"^cuda-toolkit==(\d+)\.", requirements.read_text(), re.MULTILINE)[1])


def rows() -> list[dict[str, str]] | str:
    """Each GPU's fields; or why there are none. An old nvidia-smi does not know compute_cap: it is then left out."""
    if not shutil.which("nvidia-smi"):
        return "no nvidia-smi on PATH"
    said = ""
    for fields in (FIELDS, FIELDS[:-1]):
        command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return "nvidia-smi does not answer within 60 s"
        last = len(fields) - 1
        cells = [[cell.strip() for cell in line.rsplit(",", last)] for line in shown.stdout.splitlines()]
        found = [dict(zip(fields, row, strict=True)) for row in cells if len(row) == len(fields)]
        if shown.returncode == 0 and found:
            return found
        said = said or next(iter((shown.stderr or shown.stdout).strip().splitlines()), "it lists no GPU")
    return f"nvidia-smi: {said}"


def driver(found: list[dict[str, str]], cuda: int) -> Finding:
    """The driver against the CUDA of the wheels."""
    told, oldest = found[0]["driver_version"], OLDEST_DRIVER[cuda]
    branch = number(told)
    if branch is None:
        return Finding("driver", f"nvidia-smi tells no version ({told}); wheels are built for CUDA {cuda}")
    mend = f"install a driver of branch {oldest} or newer: there are no wheels of these pins for an older CUDA"
    return Finding("driver", f"{told}, wheels are built for CUDA {cuda}", None if branch >= oldest else mend)


def kinds(found: list[dict[str, str]], wanted: int | None, memory_gb: float | None) -> Finding:
    """How many GPUs of which memory, against what a recipe asks for."""
    shown, small, old = [], [], []
    for row in found:
        name, memory, capability = row["name"], number(row["memory.total"]), number(row.get("compute_cap", ""))
        size = f"with {memory / 1024:.0f} GiB" if memory is not None else f"memory not told ({row['memory.total']})"
        known = (
            ""
            if capability is not None
            else f", compute capability not told ({row.get('compute_cap', 'unknown field')})"
        )
        shown.append(f"{name} {size}{known}")
        if memory_gb and memory is not None and memory * MIB < 0.95 * memory_gb * GB:
            small.append(name)
        if capability is not None and capability < 8:
            old.append(name)
    mend = None
    if old:
        mend = f"{old[0]} has no bf16: use GPUs of compute capability 8.0 or newer (A100, H100)"
    elif wanted and len(found) < wanted:
        mend = (
            f"{wanted} are wanted: N_GPUS_PER_NODE={len(found)} uses what is here (CUDA_VISIBLE_DEVICES may hide some)"
        )
    elif small:
        mend = (
            f"{memory_gb:g} GB are wanted: `verl-vaopd plan RECIPE --gpu ...` tells which settings fit less; "
            "with those and GPU_MEMORY_GB set to what is here a recipe starts"
        )
    return Finding("GPUs", f"{len(found)}: {', '.join(dict.fromkeys(shown))}", mend)


def gpus(requirements: Path, wanted: int | None = None, memory_gb: float | None = None) -> list[Finding]:
    """Driver and GPUs; one finding where nvidia-smi tells nothing."""
    found = rows()
    if isinstance(found, str):
        return [Finding("driver", found, INSTALL)]
    return [driver(found, cuda_of_wheels(requirements)), kinds(found, wanted, memory_gb)]
