"""The findings as a table, as JSON, and as Markdown that fits into an issue."""

import importlib.metadata
import json
import os
import platform
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from verl_vaopd.selfcheck.check import Check

PACKAGES = ("verl_vaopd", "verl", "torch", "transformers", "ray", "TransferQueue", "tensordict")


def machine(device: str) -> dict:
    """System, Python, cores and GPUs; host name and paths are left out, as this goes into issues."""
    import torch

    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {
        "device": device,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
    }


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def table(checks: list[Check]) -> str:
    lines = [f"{'what':<42} {'figure':>9} {'limit':>7} {'unit':<12} verdict"]
    for check in checks:
        note = f" ({check.note})" if check.note else ""
        figures = f"{shown(check.figure):>9} {shown(check.limit):>7} {check.unit:<12}"
        lines.append(f"{check.name:<42} {figures} {check.verdict}{note}")
    return "\n".join(lines)


def summary(checks: list[Check]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in Counter(check.verdict for check in checks).items())


def markdown(checks: list[Check], here: dict, packages: dict[str, str]) -> str:
    facts = [f"{name} {value}" for name, value in here.items() if value]
    lines = [
        f"**verl-vaopd selfcheck**: {summary(checks)}",
        "",
        ", ".join(facts),
        "",
        ", ".join(f"{name} {version}" for name, version in packages.items()),
        "",
        "| what | figure | limit | unit | verdict | note |",
        "|---|---|---|---|---|---|",
    ]
    for check in checks:
        note = check.note.replace("|", "\\|").replace("\n", " ")
        cells = (check.name, shown(check.figure), shown(check.limit), check.unit, check.verdict, note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(checks: list[Check], device: str, output: Path) -> None:
    """``selfcheck.json`` and ``selfcheck.md`` in ``output``."""
    here, packages = machine(device), versions()
    content = {"machine": here, "versions": packages, "checks": [asdict(check) for check in checks]}
    (output / "selfcheck.json").write_text(json.dumps(content, indent=1) + "\n")
    (output / "selfcheck.md").write_text(markdown(checks, here, packages))
