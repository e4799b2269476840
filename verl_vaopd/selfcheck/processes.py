"""The ranks' processes: started, waited for, read."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.selfcheck.check import FAILED, Check

PATIENCE_S = 600


def checks(device: str) -> Iterator[Check]:
    """What the ranks found; of a world that all ranks share, rank 0's. A rank that dies is a check that failed."""
    from verl_vaopd.tiny.models import random_models

    worlds = [1, 2] if device == "cpu" else sorted({1, min(torch.cuda.device_count(), 8)})
    with tempfile.TemporaryDirectory(prefix="vaopd_selfcheck_") as name:
        folder = Path(name)
        random_models(folder)
        started = {
            (world, rank): start(rank, world, worlds, device, folder) for world in worlds for rank in range(world)
        }
        try:
            for (world, rank), process in started.items():
                process.wait(timeout=PATIENCE_S)
                if process.returncode:
                    last = (folder / f"log_{world}_{rank}").read_text().strip().splitlines()[-1:]
                    yield Check(f"rank {rank} of {world}", verdict=FAILED, note="".join(last)[:500])
                elif rank == 0:
                    for found in json.loads((folder / f"checks_{world}_0.json").read_text()):
                        yield Check(**found)
        finally:
            for process in started.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()


def start(rank: int, world: int, worlds: list[int], device: str, folder: Path) -> subprocess.Popen:
    platform = {"VERL_PLATFORM": "cpu"} if device == "cpu" else {}
    arguments = [str(rank), str(world), ",".join(map(str, worlds)), device, str(folder)]
    with open(folder / f"log_{world}_{rank}", "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "verl_vaopd.selfcheck.rank", *arguments],
            env={**os.environ, **platform},
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
