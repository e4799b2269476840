"""The trackers of a run, all told the same."""

import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from verl_vaopd.runlog.run_log import json_line
from verl_vaopd.trackers.mlflow_run import MLflow
from verl_vaopd.trackers.swanlab_run import SwanLab
from verl_vaopd.trackers.tensorboard_events import TensorBoard
from verl_vaopd.trackers.tracker import Start, Tracker
from verl_vaopd.trackers.wandb_run import WandB

TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "swanlab": SwanLab}
HEAT_MAPS = "heat_maps"
"""In the run's folder: ``step_N/ID.png``, what trackers are given of the validation at step N."""


def names_of(logger: str | Iterable[str] | None) -> list[str]:
    """``trainer.logger``, which may be one name or none."""
    return [logger] if isinstance(logger, str) else list(logger or ())


def values_of(record: dict) -> dict[str, float]:
    """The finite numbers of a record of ``metrics.jsonl``, as they stand there, and 1 for each alarm."""
    plain = json.loads(json_line(record, stand_in=lambda _: None))
    values = {
        name: value
        for name, value in plain.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return values | {f"alarms/{name}": 1 for name in plain.get("alarms", ())}


class Trackers:
    """The trackers named in ``trainer.logger``.

    A start that goes on from a step tells its record again, in case the run was killed before it was told, together
    with a validation of that step. A tracker that holds nothing yet is told all earlier steps.

    A tracker that fails does not stop the run: what it did not take is kept and comes with what is told next.

    Args:
        names: of ``TRACKERS``.
        records: of ``metrics.jsonl`` so far.
        say: for a line to the person who watches.
    """

    def __init__(self, names: list[str], start: Start, records: list[dict], say: Callable[[str], None]):
        self.say, self.folder = say, Path(start.output_dir) / HEAT_MAPS
        self.trackers = {name: TRACKERS[name](start) for name in names}
        self.waiting: dict[str, deque] = {name: deque() for name in names}
        self.again: dict = {}
        for record in records:
            if record["step"] == start.step:
                self.again |= record
        earlier = [record for record in records if record["step"] != start.step]
        empty = [name for name, tracker in self.trackers.items() if tracker.is_empty]
        for record in earlier:
            self._tell(empty, "log", *_logged(record))
        for step in sorted({record["step"] for record in earlier}):
            self._tell_images(empty, step)

    def log(self, record: dict) -> None:
        """A record of ``metrics.jsonl``."""
        told = [record]
        if self.again:
            same = self.again["step"] == record["step"]
            told = [self.again | record] if same else [self.again, record]
            step, self.again = self.again["step"], {}
            self._tell_images(self.trackers, step)
        for each in told:
            self._tell(self.trackers, "log", *_logged(each))

    def images(self, step: int) -> None:
        """The pictures that lie in ``heat_maps/step_N``."""
        if self.again.get("step") != step:  # else they come with its record
            self._tell_images(self.trackers, step)

    def alarm(self, step: int, name: str, text: str) -> None:
        self._tell(self.trackers, "alarm", step, name, text)

    def table(self, step: int, text: str) -> None:
        self._tell(self.trackers, "table", step, text)

    def close(self, failed: bool) -> None:
        if self.again:
            self.log({"step": self.again["step"]})
        self._tell(self.trackers, "close", failed)
        for name, waiting in self.waiting.items():
            if waiting:
                self.say(f"{name} lacks the end of the run, which metrics.jsonl has")

    def _tell_images(self, names: Iterable[str], step: int) -> None:
        for path in sorted((self.folder / f"step_{step}").glob("*.png")):
            self._tell(names, "image", step, f"val/heat_map/{path.stem}", path)

    def _tell(self, names: Iterable[str], what: str, *told) -> None:
        for name in names:
            waiting = self.waiting[name]
            waiting.append((what, told))
            try:
                while waiting:
                    _call(self.trackers[name], *waiting[0])
                    waiting.popleft()
            except Exception as error:  # of somebody's server, network or disk
                if len(waiting) == 1:
                    reason = re.sub(
                        r"//[^/@\s]*@", "//", " ".join(str(error).split())
                    )  # an address without its password
                    self.say(f"{name} took nothing ({reason}): it is told again at the next step")


def _logged(record: dict) -> tuple[int, float | None, dict[str, float]]:
    values = values_of(record)
    return record["step"], values.get("time/wall"), values


def _call(tracker: Tracker, what: str, told: tuple) -> None:
    if what == "image":
        step, name, path = told
        with Image.open(path) as image:
            told = (step, name, image.convert("RGB"))
    getattr(tracker, what)(*told)
