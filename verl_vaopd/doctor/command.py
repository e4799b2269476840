"""The command: which checks there are, in which order, and what they want."""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from verl_vaopd.doctor import environment, gpus, machine, services
from verl_vaopd.doctor.compiler import compiler
from verl_vaopd.doctor.finding import Finding

GPUS_OF_A_RECIPE = 8
NEEDED = {
    "cpu": {"disk": 2, "shm": 0.5, "memory": 14, "environment": 12},
    "gpu": {"disk": 120, "shm": 16, "environment": 18},
}
"""GB. GPU: checkpoints of a 2B student by ``verl-vaopd plan``; Ray's object store, with a step's images; the wheels
(4.5 GB) and what is unpacked of them (11 GiB)."""
MODELS = ["Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"]
Check = Callable[[], Finding | list[Finding]]


def on_machine(kind: str, args: argparse.Namespace) -> Iterator[Check]:
    """What can be looked at before any package is installed."""
    needed, on_gpus = NEEDED[kind], kind == "gpu"
    yield from (machine.python, machine.glibc)
    if on_gpus:
        yield lambda: gpus.gpus(environment.requirements("gpu"), args.gpus, args.gpu_memory)
        yield compiler
    memory = machine.memory_wanted(args.gpus or GPUS_OF_A_RECIPE, args.models) if on_gpus else needed["memory"]
    yield lambda: machine.host_memory(memory)
    if not (args.venv / "bin" / "python").exists():
        mend = "free some, or set VAOPD_VENV=DIR on a larger disk"
        yield lambda: machine.free_space("environment", args.venv, needed["environment"], mend)
    resumes = (args.output / "checkpoints").exists()  # then its checkpoints have their room
    disk = 0 if resumes else needed["disk"] if args.disk is None else args.disk
    yield lambda: machine.free_space("disk", args.output, disk, "free some, or put runs elsewhere with RUN_DIR")
    if on_gpus:
        yield lambda: machine.room_for_models(args.models)
    mend = "in Docker --shm-size=32g or --ipc=host"
    yield lambda: machine.free_space("/dev/shm", Path("/dev/shm"), needed["shm"], mend)
    yield from (machine.open_files, machine.sockets)


def in_environment(kind: str) -> Iterator[Check]:
    """What is looked at in the environment that this runs in."""
    yield lambda: environment.versions(kind)
    if kind == "gpu":
        yield from (environment.torch_and_gpus, environment.flash_attention)


def around(kind: str) -> Iterator[Check]:
    """What a run meets outside of its machine."""
    yield from (services.ray_cluster, services.ports)
    if kind == "gpu":
        yield services.hub


def installed_kind() -> str:
    """The set that scripts/setup.sh put into this environment; else what the machine has."""
    stamp = Path(sys.prefix) / ".vaopd-kind"
    if stamp.exists():
        return stamp.read_text().split()[0]
    return "gpu" if shutil.which("nvidia-smi") else "cpu"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verl-vaopd doctor",
        description="Check this machine: driver, GPUs, compiler, memory, disk, sockets, versions, Ray, ports, the hub.",
        epilog="Exit code 0: all is well; 1: a line failed and says how to mend it. GPU recipes begin so.",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cpu", dest="kind", action="store_const", const="cpu", help="what the tiny recipe needs")
    kind.add_argument("--gpu", dest="kind", action="store_const", const="gpu", help="what the GPU recipes need")
    parser.add_argument(
        "--only", choices=["machine", "environment"], help="the machine needs no package to be installed"
    )
    parser.add_argument("--gpus", type=int, help="that a run uses on this machine; default: not checked")
    parser.add_argument("--gpu-memory", type=float, metavar="GB", help="of each; default: not checked")
    parser.add_argument(
        "--models", nargs="+", default=MODELS, help="student and teacher; default: those of the 8B recipe"
    )
    parser.add_argument("--disk", type=float, metavar="GB", help="for the run; default: for that of a 2B student")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="where runs go; default: %(default)s")
    parser.add_argument("--venv", type=Path, default=Path(sys.prefix), help="where the environment is or goes")
    return parser.parse_args(argv)


def checks(kind: str, args: argparse.Namespace) -> Iterator[Check]:
    """In order."""
    if args.only != "environment":
        yield from on_machine(kind, args)
    if args.only != "machine":
        yield from in_environment(kind)
    if args.only is None:
        yield from around(kind)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: all is well; 1: something is to be mended."""
    args, failed = parse(argv), 0
    for check in checks(args.kind or installed_kind(), args):
        findings = check()
        for finding in findings if isinstance(findings, list) else [findings]:
            print(finding, flush=True)
            failed += finding.mend is not None
    print(f"\n{failed} to mend" if failed else "\nall is well")
    return 1 if failed else 0
