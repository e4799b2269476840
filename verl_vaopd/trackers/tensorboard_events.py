"""TensorBoard: event files in ``tensorboard/`` of the run's folder."""

from pathlib import Path
from textwrap import indent

import numpy as np
from PIL import Image

from verl_vaopd.trackers.tracker import Start

FOLDER = "tensorboard"


class TensorBoard:
    """A start adds a file. By its ``purge_step`` TensorBoard drops what earlier files say of steps that come again,
    if the first file has one as well."""

    def __init__(self, start: Start):
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(start.output_dir) / FOLDER
        self.is_empty = not list(folder.glob("events.out.tfevents.*"))
        self.writer = SummaryWriter(str(folder), purge_step=0 if self.is_empty else start.step)

    def log(self, step: int, wall: float | None, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step, walltime=wall)
        self.writer.flush()  # a killed run loses nothing

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self.writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def alarm(self, step: int, name: str, text: str) -> None:
        self.writer.add_text(f"alarm_text/{name}", text, step)
        self.writer.flush()

    def table(self, step: int, text: str) -> None:
        self.writer.add_text("closing_table", indent(text, "    "), step)  # markdown's way to keep columns

    def close(self, failed: bool) -> None:
        self.writer.close()
