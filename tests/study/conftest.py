"""What tests of the study share."""

import subprocess
import sys

import pytest

from verl_vaopd.tiny.__main__ import main as tiny

SMALL = ("--updates", "2", "--prompts", "2", "--held-out", "6")


@pytest.fixture(scope="package")
def models(tmp_path_factory):
    """Untrained models and a few rows of the diluted task."""
    folder = tmp_path_factory.mktemp("dilution")
    assert tiny(["--task", "dilution", "--output", str(folder), "--random"]) == 0
    return folder


@pytest.fixture(scope="package")
def study(models, tmp_path_factory):
    """Three arms, one cell, one seed, in a process of its own."""
    output = tmp_path_factory.mktemp("study")
    arms = ("opd", "mass_distribution", "oracle")
    command = ("-m", "verl_vaopd.study", "--models", models, "--output", output, "--seeds", "1", "--arms", *arms)
    command += ("--cells", "all-1e-3-0", *SMALL)
    subprocess.run([sys.executable, *map(str, command)], check=True, timeout=1800)
    return output / "validation" / "all-0.001-0"
