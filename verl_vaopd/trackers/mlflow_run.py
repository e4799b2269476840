"""MLflow: the server or store that ``MLFLOW_TRACKING_URI`` names, else files in ``mlflow/`` of the run's folder."""

import os
import re
import time
from pathlib import Path

from PIL import Image

from verl_vaopd.trackers.tracker import Start

FOLDER = "mlflow"
DEFAULTS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # else MLflow 3.17 refuses it
    # By default it waits for minutes: what it did not take is told again at the next step anyway.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
AT_ONCE, LONGEST = 100, 500
"""Parameters of a request, letters of a value: limits of older servers."""


class MLflow:
    """MLflow keeps every value that a step ever had and orders them by time."""

    def __init__(self, start: Start):
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.metric = Metric
        folder = Path(start.output_dir, FOLDER).absolute()
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri())

        def create() -> str:
            if given := os.environ.get("MLFLOW_RUN_ID"):
                return given
            experiment = self.client.get_experiment_by_name(start.project)
            experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(start.project)
            return self.client.create_run(experiment_id, run_name=start.name).info.run_id

        self.run_id, self.is_empty = start.kept_id("mlflow", create)
        self.client.update_run(self.run_id, status="RUNNING")
        self.client.log_dict(self.run_id, start.settings, "config.yaml")
        if self.is_empty:  # MLflow refuses another value of a parameter
            params = [Param(_name(name), str(value)[:LONGEST]) for name, value in _leaves(start.settings)]
            for first in range(0, len(params), AT_ONCE):
                self.client.log_batch(self.run_id, params=params[first : first + AT_ONCE])

    def log(self, step: int, wall: float | None, values: dict[str, float]) -> None:
        # The time of logging, not that of the step: the later value of a step counts.
        now = int(1000 * time.time())
        self.client.log_batch(self.run_id, metrics=[self.metric(_name(k), v, now, step) for k, v in values.items()])

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self.client.log_image(self.run_id, image, artifact_file=f"{name}/step_{step}.png")

    def alarm(self, step: int, name: str, text: str) -> None:
        self.client.log_text(self.run_id, text, f"alarms/step_{step}_{name}.txt")

    def table(self, step: int, text: str) -> None:
        self.client.log_text(self.run_id, text, "closing_table.txt")

    def close(self, failed: bool) -> None:
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def _name(name: str) -> str:
    """``name`` in the letters that MLflow takes: ``mean@8`` is ``mean_8``."""
    return re.sub(r"/+", "/", re.sub(r"[^\w/.\- ]", "_", name)).strip("/")


def _leaves(settings: dict, section: str = ""):
    for key, value in settings.items():
        name = f"{section}.{key}" if section else str(key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, name)
        else:
            yield name, value
