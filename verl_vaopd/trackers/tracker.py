"""What a tracker does, what it is given of a run, and how the run is known there."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

IDS = "trackers.json"
"""In the run's folder: the run's id in each tracker."""


@dataclass(frozen=True)
class Start:
    """One start of a run.

    output_dir: the run's folder; project, name: under which it is shown; settings: the resolved config.
    step: the step it goes on from, of which numbers and images come again; None keeps all that is there.
    """

    output_dir: str
    project: str
    name: str
    settings: dict
    step: int | None

    def kept_id(self, tracker: str, make: Callable[[], str]) -> tuple[str, bool]:
        """The run's id in ``tracker``, made at the first start; and whether this is the first."""
        path = os.path.join(self.output_dir, IDS)
        ids = {}
        if os.path.exists(path):
            with open(path) as f:
                ids = json.load(f)
        if tracker in ids:
            return ids[tracker], False
        ids[tracker] = make()
        with open(path + ".tmp", "w") as f:
            json.dump(ids, f)
        os.replace(path + ".tmp", path)
        return ids[tracker], True


class Tracker(Protocol):
    """A run as one tracker sees it.

    is_empty: whether it holds nothing of the run yet, and is to be given all steps up to ``Start.step``.
    """

    is_empty: bool

    def __init__(self, start: Start): ...

    def log(self, step: int, wall: float | None, values: dict[str, float]) -> None:
        """Finite numbers of a step, under their names in ``metrics.jsonl``. wall: seconds since 1970."""

    def image(self, step: int, name: str, image: Image.Image) -> None: ...

    def alarm(self, step: int, name: str, text: str) -> None: ...

    def table(self, step: int, text: str) -> None:
        """The closing table."""

    def close(self, failed: bool) -> None: ...
