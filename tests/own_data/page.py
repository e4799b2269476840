"""docs/own_data.md, carried out."""

import os
import re
import shlex
from pathlib import Path

from tests.stack import ROOT
from verl_vaopd import cli

PAGE = (ROOT / "docs" / "own_data.md").read_text()


def python_blocks() -> list[str]:
    """The one that draws pictures, and the reward."""
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(start: str) -> list[list[str]]:
    """The commands that begin with ``start``, their lines joined, word by word."""
    lines = re.findall(r"^    ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    return [shlex.split(line.replace("\\\n", " ")) for line in lines if line.startswith(start)]


def converted(folder: Path) -> Path:
    """Pictures, ``rows.jsonl``, ``data/own`` and ``reward.py`` in an empty folder, as the page has them. Returns it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        drawn, reward = python_blocks()
        exec(drawn, {})
        Path("reward.py").write_text(reward)
        assert cli.main(commands("verl-vaopd data convert --from rows.jsonl")[0][1:]) == 0
    finally:
        os.chdir(before)
    return folder


def training_arguments(folder: Path) -> list[str]:
    """Those of the page's last training command, which has all of the first's, with ``folder`` for ``$PWD``."""
    plain, with_reward = commands("bash recipes/vaopd_tiny_cpu.sh")
    assert with_reward[: len(plain)] == plain
    return [argument.replace("$PWD", str(folder)) for argument in with_reward[2:]]
