"""A run of four steps, killed after the fourth, that goes on from step 2: what each tracker then holds."""

import importlib.util
import math
import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trackers.wandb_file import records_of, rows_of
from tests.watching import PLANTED, files_that_hold, is_loopback, seen
from verl_vaopd.trackers import trackers as module
from verl_vaopd.trackers.tracker import Start
from verl_vaopd.trackers.trackers import Trackers, names_of, values_of

SETTINGS = {"vaopd": {"method": "vaopd", "temperature": 1.0}, "data": {"train_files": ["a.parquet"]}}
TABLE = "                 before   after\nheld-out accuracy  25.0%   75.0%"
SAID = "step 4: KL rises"


def record(step: int, attempt: int) -> dict:
    """Loss ``step`` + 100 ``attempt``; validated at 0, 2 and 4."""
    numbers = {"step": step, "time/wall": 1e9 + step, "val-core/a/acc/mean@8": 0.5}
    numbers |= {"val/accuracy": step / 4 + 100 * attempt} if step % 2 == 0 else {}
    return numbers | ({"loss": step + 100.0 * attempt, "kl/mean": math.nan} if step else {})


def begin(folder: Path, names: list[str], step: int | None, records: list[dict]) -> Trackers:
    said = []
    trackers = Trackers(names, Start(str(folder), "project", "name", SETTINGS, step), records, said.append)
    trackers.said = said
    return trackers


def picture(folder: Path, step: int, shade: int) -> None:
    path = folder / "heat_maps" / f"step_{step}" / "geometry_1.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(path)


def run_twice(folder: Path, *names: str) -> None:
    """Steps 0 to 4; again from step 2, which is validated again, to the end."""
    first = begin(folder, [*names], 0, [])
    for step in range(5):
        if step % 2 == 0:
            picture(folder, step, shade=step)
            first.images(step)
        first.log(record(step, 0))
    first.alarm(4, "kl_rising", SAID)
    first.close(failed=True)

    second = begin(folder, [*names], 2, [record(step, 0) for step in range(3)])
    picture(folder, 2, shade=102)
    second.images(2)
    second.log({"step": 2, "time/wall": 1e9 + 9, "val/accuracy": 102.0})
    for step in (3, 4):
        if step == 4:
            picture(folder, 4, shade=104)
            second.images(4)
        second.log(record(step, 1) | ({"alarms": ["kl_rising"]} if step == 4 else {}))
    second.alarm(4, "kl_rising", SAID)
    second.table(4, TABLE)
    second.close(failed=False)
    assert first.said == second.said == []


LOSS = [(1, 1.0), (2, 2.0), (3, 103.0), (4, 104.0)]
ACCURACY = [(0, 0.0), (2, 102.0), (4, 101.0)]
"""What is left: step 2 as it was, but for its validation."""


def test_the_numbers_are_those_of_metrics_jsonl():
    odd = {"step": 3, "loss": np.float32(0.5), "va": torch.tensor(2.0), "kl": math.inf, "none": None, "text": "a"}
    assert values_of(odd | {"alarms": ["drift", "kl_rising"]}) == {
        **{"loss": 0.5, "va": 2.0},
        **{"alarms/drift": 1, "alarms/kl_rising": 1},
    }
    assert names_of("wandb") == ["wandb"] and names_of(None) == [] and names_of(["a", "b"]) == ["a", "b"]


def test_tensorboard_holds_each_step_once(tmp_path):
    run_twice(tmp_path, "tensorboard")
    held = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    held.Reload()
    assert [(event.step, event.value) for event in held.Scalars("loss")] == LOSS
    assert [(event.step, event.value) for event in held.Scalars("val/accuracy")] == ACCURACY
    assert [(event.step, event.value) for event in held.Scalars("alarms/kl_rising")] == [(4, 1.0)]
    assert held.Scalars("loss")[0].wall_time == 1e9 + 1 and "kl/mean" not in held.Tags()["scalars"]
    pictures = held.Images("val/heat_map/geometry_1")
    assert [(each.step, each.width, each.height) for each in pictures] == [(0, 6, 4), (2, 6, 4), (4, 6, 4)]
    held = plugin_event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))  # the other drops no texts
    held.Reload()
    (said,) = held.Tensors("alarm_text/kl_rising/text_summary")
    assert said.step == 4 and said.tensor_proto.string_val == [SAID.encode()]
    (table,) = held.Tensors("closing_table/text_summary")
    assert b"    held-out accuracy  25.0%   75.0%" in table.tensor_proto.string_val[0]


def offline_folders(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def points(rows: list[dict], name: str) -> list[tuple]:
    return [(row["step"], row[name]) for row in rows if name in row]


def test_an_offline_run_of_wandb_is_written_whole_at_each_start(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_twice(tmp_path, "wandb")
    (folder,) = offline_folders(tmp_path)
    rows = rows_of(folder)
    assert points(rows, "loss") == LOSS and points(rows, "val/accuracy") == ACCURACY
    assert points(rows, "alarms/kl_rising") == [(4, 1)]
    pictures = points(rows, "val/heat_map/geometry_1/path")
    assert [step for step, _ in pictures] == [0, 2, 4]
    shades = [Image.open(folder / "files" / path).getpixel((0, 0))[0] for _, path in pictures]
    assert shades == [0, 102, 104]
    (table,) = points(rows, "closing_table/path")
    assert TABLE in (folder / "files" / table[1]).read_text()
    held = {kind: [] for kind in ("run", "metric", "alert")}
    for each in records_of(folder):
        if (kind := each.WhichOneof("record_type")) in held:
            held[kind].append(getattr(each, kind))
    assert [(alert.title, alert.text) for alert in held["alert"]] == [("kl_rising at step 4", SAID)]
    assert ("*", "step") in [(metric.glob_name, metric.step_metric) for metric in held["metric"]]
    run = held["run"][0]
    assert (run.project, run.display_name) == ("project", "name") and f"-{run.run_id}" in folder.name


def test_sockets_of_wandb_are_private(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    trackers = begin(tmp_path, ["wandb"], 0, [])
    deadline = time.monotonic() + 60
    while not (found := wandbs_processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    opened = [path for each in found for path in each.open_to_others]
    addresses = [address for each in found for address in each.listening]
    trackers.close(failed=False)
    assert found and opened == [] and all(map(is_loopback, addresses)) and os.environ["TMPDIR"] == str(tmp_path)


def wandbs_processes() -> list:
    """The service and its system monitor, once both are there and listen."""
    found = [seen(each) for each in psutil.Process().children(recursive=True) if "wandb" in each.name()]
    return found if "wandb-symon" in {each.name for each in found} else []


def test_an_offline_run_of_wandb_that_was_synced_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    begin(tmp_path, ["wandb"], 0, []).close(failed=False)
    (first,) = offline_folders(tmp_path)
    (first / f"{next(first.glob('run-*.wandb')).name}.synced").touch()
    second = begin(tmp_path, ["wandb"], 2, [record(step, 0) for step in range(3)])
    second.log(record(3, 1))
    second.close(failed=False)
    assert first.exists()
    (new,) = set(offline_folders(tmp_path)) - {first}
    assert points(rows_of(new), "loss") == [(2, 2.0), (3, 103.0)]  # step 2: in case it was not told
    assert first.name.split("-")[3] == new.name.split("-")[3]  # the run's id


def test_mlflow_holds_one_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="its bounds and the pins of requirements/ exclude each other")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_twice(tmp_path, "mlflow")
    client = MlflowClient((tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("project")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "name" and run.info.status == "FINISHED"
    assert run.data.params["vaopd.method"] == "vaopd" and run.data.params["data.train_files"] == "['a.parquet']"
    last: dict[str, dict] = {"loss": {}, "val/accuracy": {}, "val-core/a/acc/mean_8": {}}
    for name, by_step in last.items():
        history = client.get_metric_history(run.info.run_id, name)
        by_step |= {each.step: each.value for each in sorted(history, key=lambda each: each.timestamp)}
    assert sorted(last["loss"].items()) == LOSS and sorted(last["val/accuracy"].items()) == ACCURACY
    assert set(last["val-core/a/acc/mean_8"]) == {0, 1, 2, 3, 4}
    assert run.data.metrics["loss"] == 104.0 and run.data.metrics["alarms/kl_rising"] == 1
    artifacts = tmp_path / "mlflow" / experiment.experiment_id / run.info.run_id / "artifacts"
    shades = [Image.open(artifacts / f"val/heat_map/geometry_1/step_{n}.png").getpixel((0, 0))[0] for n in (0, 2, 4)]
    assert shades == [0, 102, 104]
    assert (artifacts / "alarms" / "step_4_kl_rising.txt").read_text() == SAID
    assert (artifacts / "closing_table.txt").read_text() == TABLE


def test_a_tracker_named_later_is_told_all_earlier_steps(tmp_path):
    for step in (0, 2):
        picture(tmp_path, step, shade=step)
    late = begin(tmp_path, ["tensorboard"], 2, [record(step, 0) for step in range(3)])
    late.close(failed=False)
    held = EventAccumulator(str(tmp_path / "tensorboard"))
    held.Reload()
    assert [event.step for event in held.Scalars("loss")] == [1, 2]
    assert [event.step for event in held.Images("val/heat_map/geometry_1")] == [0, 2]


class Torn:
    """A tracker whose server is away for a while."""

    away, is_empty = False, True

    def __init__(self, start):
        self.told = []

    def log(self, step, wall, values):
        if Torn.away:
            raise ConnectionError("no route to https://user:secret@host/x")
        self.told.append(step)

    def close(self, failed):
        self.log("closed", None, {})


def test_a_tracker_that_fails_is_told_again_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(module.TRACKERS, "torn", Torn)
    trackers = begin(tmp_path, ["torn"], 0, [])
    for step, away in ((1, False), (2, True), (3, True), (4, False)):
        monkeypatch.setattr(Torn, "away", away)
        trackers.log(record(step, 0))
    assert trackers.trackers["torn"].told == [1, 2, 3, 4]
    assert trackers.said == ["torn took nothing (no route to https://host/x): it is told again at the next step"]
    monkeypatch.setattr(Torn, "away", True)
    trackers.close(failed=False)
    assert trackers.said[-1] == "torn lacks the end of the run, which metrics.jsonl has"


def test_no_key_is_in_any_file(tmp_path, monkeypatch):
    keys = {name: "planted" + "0123456789abcdef" * 3 for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD")}
    for name, key in (PLANTED | keys).items():
        monkeypatch.setenv(name, key)
    monkeypatch.setenv("WANDB_MODE", "offline")
    here = [name for name in ("tensorboard", "wandb", "mlflow") if importlib.util.find_spec(name)]
    run_twice(tmp_path, *here)
    assert files_that_hold(b"loss", [tmp_path]), "the search finds what is there"
    for key in (PLANTED | keys).values():
        assert not files_that_hold(key.encode(), [tmp_path])
