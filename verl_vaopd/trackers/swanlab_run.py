"""SwanLab: online, or as ``SWANLAB_MODE`` says files in ``swanlog/`` of the run's folder."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from verl_vaopd.trackers.tracker import Start


class SwanLab:
    """SwanLab goes on with a run online only; in its other modes a start is a run of its own."""

    def __init__(self, start: Start):
        import swanlab

        self.swanlab = swanlab
        mode, goes_on, self.is_empty = swanlab_mode(os.environ), {}, True
        if mode == "online":
            given = os.environ.get("SWANLAB_RUN_ID")
            run_id, self.is_empty = start.kept_id("swanlab", lambda: given or secrets.token_hex(11)[:21])
            goes_on = {"id": run_id, "resume": "allow"}
        self.run = swanlab.init(
            project=start.project,
            experiment_name=start.name,
            config=start.settings,
            logdir=str(Path(start.output_dir, "swanlog")),
            mode=mode,
            **goes_on,
        )

    def log(self, step: int, wall: float | None, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self.run.log({name: self.swanlab.Image(image)}, step=step)

    def alarm(self, step: int, name: str, text: str) -> None:
        self.run.log({f"alarm_text/{name}": self.swanlab.Text(text)}, step=step)

    def table(self, step: int, text: str) -> None:
        self.run.log({"closing_table": self.swanlab.Text(text)}, step=step)

    def close(self, failed: bool) -> None:
        if failed:
            self.run.finish("crashed", error="progress.log says why")
        else:
            self.run.finish()


def swanlab_mode(environ: Mapping[str, str]) -> str:
    mode = environ.get("SWANLAB_MODE", "online")
    return "online" if mode == "cloud" else mode  # its older name
