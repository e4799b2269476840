"""What a machine is, by the standard library alone: system, memory, disk, files, sockets."""

import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from verl_vaopd.doctor.finding import GB, Finding
from verl_vaopd.platform.loopback import PYTHONS_PART, RAYS_PART, holds_sockets, private_folder

OPEN_FILES = 8192
OLDEST_GLIBC = (2, 31)
"""Of the pinned wheels, llguidance's asks for the newest: manylinux_2_31."""
MEMORY_A_RANK = {"small": 32, "large": 64}
"""GB of host memory for each GPU, with a teacher up to 16 B parameters and with a larger one: every rank loads the
student in fp32 before it shards it, an offloaded 32B teacher waits here, beside Ray's object store and the loaders."""
LARGE = 16
WEIGHTS_GB = 2.2
"""Of a checkpoint in bf16, for 10^9 parameters by its name."""


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    wrong = sys.version_info[:2] not in ((3, 11), (3, 12)) or not sys.platform.startswith("linux")
    mend = "use Linux and Python 3.11 or 3.12: PYTHON=/path/to/python3.11 bash scripts/setup.sh" if wrong else None
    return Finding("python", f"{version} on {sys.platform}", mend)


def glibc() -> Finding:
    """The C library against what the wheels were built for."""
    name, version = platform.libc_ver()
    wanted = ".".join(map(str, OLDEST_GLIBC))
    numbers = tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()
    mend = f"use a system with glibc {wanted} or newer (Debian 11, Ubuntu 20.04, RHEL 9), or docker/Dockerfile"
    return Finding("C library", f"{name or 'none known'} {version}".strip(), None if numbers >= OLDEST_GLIBC else mend)


def billions(model: str) -> float:
    """Parameters of a model by its name, 10^9; 0 where the name does not tell."""
    told = re.search(r"(\d+(?:\.\d+)?)B(?![a-z])", Path(model).name)
    return float(told[1]) if told else 0.0


def memory_wanted(ranks: int, models: list[str]) -> float:
    """GB of host memory for so many GPUs of a node."""
    large = max(map(billions, models), default=0) > LARGE
    return ranks * MEMORY_A_RANK["large" if large else "small"]


def memory_limit() -> float | None:
    """Bytes that this process' control groups (a container's, a Slurm job's) allow; None: they set no limit."""
    limits = []
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, file = (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if controllers else ("/sys/fs/cgroup", "memory.max")
        )
        folder = Path(root + path)
        for each in (folder, *folder.parents):
            told = each / file
            if told.is_file() and (value := told.read_text().strip()).isdigit():
                limits.append(int(value))
    return min(limits, default=None)


def host_memory(needed_gb: float) -> Finding:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = memory_limit()
    found = f"{total / GB:.0f} GB, {available / GB:.0f} GB available"
    usable, mend = total, f"{needed_gb:g} GB are wanted: use a larger machine, or fewer GPUs of it (N_GPUS_PER_NODE)"
    if limit is not None and limit < total:
        usable, found = limit, f"{limit / GB:.0f} GB allowed of {found}"
        mend = f"{needed_gb:g} GB are wanted: raise the job's or the container's limit (Slurm --mem=0, Docker --memory)"
    return Finding("memory", found, None if usable >= needed_gb * GB else mend)


def free_space(name: str, folder: Path, needed_gb: float, mend: str) -> Finding:
    """Free space and write access where ``folder`` is or would be made."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / GB
    if not os.access(there, os.W_OK):
        return Finding(name, f"{there} cannot be written to", mend)
    found = f"{free:.1f} GB free for {folder}"
    return Finding(name, found, None if free >= needed_gb else f"{needed_gb:g} GB are wanted: {mend}")


def hub_cache() -> Path:
    """Where huggingface_hub keeps models, by its variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def models_to_fetch(models: list[str]) -> list[str]:
    """Those that are no folder, and not in the hub's cache."""
    snapshots = {name: hub_cache() / f"models--{name.replace('/', '--')}" / "snapshots" for name in models}
    return [name for name in models if not Path(name).is_dir() and not any(snapshots[name].glob("*/*"))]


def room_for_models(models: list[str]) -> Finding:
    wanted = models_to_fetch(models)
    needed = sum(map(billions, wanted)) * WEIGHTS_GB
    name = f" ({', '.join(wanted)} to be fetched)" if wanted else ""
    finding = free_space("hub cache", hub_cache(), needed, "set HF_HOME to a folder on a larger disk")
    return Finding(finding.name, finding.found + name, finding.mend)


def open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    raised = hard == resource.RLIM_INFINITY or hard >= OPEN_FILES
    mend = (
        f"ulimit -n {hard}"
        if raised
        else "raise the hard limit (limits.conf, LimitNOFILE, Docker --ulimit nofile=65536)"
    )
    return Finding("open files", shown, None if enough else f"Ray wants {OPEN_FILES:,} or more: {mend}")


def sockets() -> Finding:
    """Paths of Unix sockets have 107 bytes at most."""
    try:
        folder = os.environ.get("RAY_TMPDIR") or private_folder()
    except (OSError, ValueError) as error:
        return Finding("sockets", str(error), "set TMPDIR to a folder of yours")
    found = f"Ray's in {folder}, their paths of {len(os.fsencode(folder)) + RAYS_PART} bytes at most"
    if not holds_sockets(folder):
        return Finding("sockets", found, "107 are possible: unset RAY_TMPDIR, or name a shorter folder")
    if not holds_sockets(tempfile.gettempdir(), PYTHONS_PART):
        found += f"; TMPDIR={tempfile.gettempdir()} is too long for Python's, which go there too"
    return Finding("sockets", found)
