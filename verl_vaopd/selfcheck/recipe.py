"""``--full``: two steps of the real models through the recipe."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

from verl_vaopd.runlog.json_lines import read_json_lines
from verl_vaopd.selfcheck.check import Check, at_most, not_checked

NAME, RECIPE = "two steps of the recipe: drift", "recipes/vaopd_8b_2b_geo3k.sh"
ROOT = Path(__file__).parents[2]
MAX_DRIFT = 0.1  # vaopd.max_drift of bf16
PATIENCE_S = 4 * 3600


def checks(device: str, output: Path) -> Iterator[Check]:
    """8B teaching 2B; on one GPU 2B teaching 2B."""
    if device != "cuda":
        yield not_checked(NAME, "needs a GPU")
        return
    gpus, run = torch.cuda.device_count(), output.absolute() / "recipe"
    small = ["vaopd.teacher.path=Qwen/Qwen3-VL-2B-Instruct"] if gpus == 1 else []
    limits = ["trainer.total_training_steps=2", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    with open(output / "recipe.log", "w") as log:
        ended = subprocess.run(
            ["bash", RECIPE, *small, *limits],
            cwd=ROOT,
            env={**os.environ, "N_GPUS_PER_NODE": str(gpus), "RUN_DIR": str(run)},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
    if ended.returncode:
        raise RuntimeError(f"{RECIPE} ended with status {ended.returncode}: see {output / 'recipe.log'}")
    records = read_json_lines(run / "metrics.jsonl")
    drifts = [record["drift/mean"] for record in records if "drift/mean" in record]
    yield at_most(NAME, max(drifts), MAX_DRIFT, "nats", "2B" if small else "8B to 2B")
