"""What tests of the study share."""

import subprocess
import sys

import pytest

from verl_vaopd.tiny.__main__ import main as tiny

SMALL = ("--updates", "2", "--prompts", "2", "--held-out", "6")
REWARDS_BY_LENGTH = """
import runpy
from verl_vaopd.tiny import accuracy
of_texts = accuracy.accuracy
def by_length(texts, rows):  # untrained models are never right
    return float(len(texts[0]) % 2 == 0) if len(texts) == 1 else of_texts(texts, rows)
accuracy.accuracy = by_length
runpy.run_module("verl_vaopd.study", run_name="__main__")
"""


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """Untrained models and a few rows of the diluted task."""
    folder = tmp_path_factory.mktemp("dilution")
    assert tiny(["--task", "dilution", "--output", str(folder), "--random"]) == 0
    return folder


@pytest.fixture(scope="package")
def study(models, tmp_path_factory):
    """Six arms, one cell, one seed, in a process of its own."""
    output = tmp_path_factory.mktemp("study")
    arms = ("opd", "mass_distribution", "oracle", "grpo", "grpo_va", "self_va")
    command = ("-c", REWARDS_BY_LENGTH, "--models", models, "--output", output, "--seeds", "1", "--arms", *arms)
    command += ("--cells", "all-1e-3-0", *SMALL)
    subprocess.run([sys.executable, *map(str, command)], check=True, timeout=1800)
    return output / "validation" / "all-0.001-0"
