"""The toolkit in a process and an environment of its own; see ``toolkit.py`` for what it does there."""

import json
import os
import re
import subprocess
from pathlib import Path

from verl_vaopd.platform.child import die_with_parent
from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.server import stop

PROGRAM = Path(__file__).with_name("toolkit.py")
SETUP = "bash scripts/setup.sh --eval"
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
STEERS = ("LOCAL_LLM", "BOYUE", "FWD_API", "EVAL_PROXY", "SPLIT_THINK", "PRED_FORMAT", "EVAL_FORMAT", "PYTHONPATH")
"""Variables by which the toolkit would score otherwise than told here."""


def toolkit_python() -> Path:
    """The interpreter of the toolkit's environment: ``VAOPD_EVAL_VENV``, else ``.venv-eval`` beside the package.

    Raises:
        EvaluationError: it is not there.
    """
    beside = Path(__file__).parents[2] / ".venv-eval"
    python = Path(os.environ.get("VAOPD_EVAL_VENV") or beside).absolute() / "bin" / "python"
    if not python.is_file():
        raise EvaluationError(f"no evaluation toolkit at {python.parents[1]}: {SETUP} makes it (VAOPD_EVAL_VENV)")
    return python


def toolkit_environment() -> dict[str, str]:
    """This process's, without secrets (the toolkit stores and logs what it is given) and without what steers it.

    Raises:
        EvaluationError: ``LMUData`` names no folder; the toolkit would silently use another.
    """
    folder = os.environ.get("LMUData")
    if folder and not Path(folder).is_dir():
        raise EvaluationError(f"LMUData={folder} is no folder: make it, or unset it to use ~/LMUData")
    return {name: value for name, value in os.environ.items() if name not in STEERS and not SECRET.search(name)}


class Toolkit:
    """A running toolkit; a context manager. ``name`` is its distribution and version.

    Raises:
        EvaluationError: it cannot start, or a request to it failed; the text says why.
    """

    def __init__(self, log: Path):
        self.log = log
        with open(log, "ab") as written:
            self._process = subprocess.Popen(
                [str(toolkit_python()), "-P", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                env=toolkit_environment(),
                preexec_fn=die_with_parent,
                text=True,
            )
        self.name = self._reply()["toolkit"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        """End it, from any thread: a request under way then fails."""
        stop(self._process)

    def call(self, command: str, **arguments) -> dict:
        """``prepare`` or ``score`` of ``toolkit.py``."""
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the missing reply tells
        return self._reply()

    def _reply(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise EvaluationError(f"the toolkit ended (status {self._process.wait()}): see {self.log}")
        reply = json.loads(line)
        if reply.get("disk_full"):
            raise EvaluationError(
                f"the disk of {self.log.parent} is full ({reply['error']}): free some space, run the same command again"
            )
        if "error" in reply:
            raise EvaluationError(f"the toolkit failed ({reply['error']}): see {self.log}")
        return reply
