"""Weights & Biases; with ``WANDB_MODE=offline`` files for ``wandb sync`` in ``wandb/`` of the run's folder."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

from PIL import Image

from verl_vaopd.platform.loopback import private_folder
from verl_vaopd.trackers.tracker import Start


class WandB:
    """The charts' x axis is ``step``, a metric of its own: W&B's own step counts rows and cannot go back.

    An offline start writes the whole run again and removes what earlier ones left, unless that was synced.
    """

    def __init__(self, start: Start):
        import wandb

        self.wandb = wandb
        run_id, is_first = start.kept_id("wandb", lambda: os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))
        with _private_sockets():
            self.run = wandb.init(
                project=start.project,
                name=start.name,
                id=run_id,
                resume="allow",
                dir=start.output_dir,
                config=start.settings,
                allow_val_change=True,
                # The log of the driver is the run's own; an address of a git remote may hold a password.
                settings=wandb.Settings(console="off", quiet=True, save_code=False, disable_git=True),
            )
        self.is_empty = is_first
        if self.run.settings.mode == "offline":
            earlier = _offline_folders(start.output_dir, run_id, but=Path(self.run.dir).parent)
            self.is_empty = not any(list(folder.glob("*.synced")) for folder in earlier)
            for folder in earlier if self.is_empty else []:
                shutil.rmtree(folder)
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, wall: float | None, values: dict[str, float]) -> None:
        self.run.log({**values, "step": step})

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self.run.log({name: self.wandb.Image(image), "step": step})

    def alarm(self, step: int, name: str, text: str) -> None:
        self.run.alert(title=f"{name} at step {step}", text=text)

    def table(self, step: int, text: str) -> None:
        self.run.log({"closing_table": self.wandb.Html(f"<pre>{escape(text)}</pre>"), "step": step})

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))
        self.wandb.teardown()  # waits for its process to write the end: finish does not


@contextmanager
def _private_sockets() -> Iterator[None]:
    """W&B's processes, which are started within the block, put their sockets into the user's private folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = private_folder()
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def _offline_folders(output_dir: str, run_id: str, but: Path) -> list[Path]:
    found = Path(output_dir, "wandb").glob(f"offline-run-*-{run_id}*")  # a second one of the same second ends with -1
    return [folder for folder in found if folder.resolve() != but.resolve()]
