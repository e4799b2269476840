"""docs/own_data.md does what it says; the training that it ends with is in tests/test_methods.py."""

import base64
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from tests.data.upstream import encoded, rows_in
from tests.own_data.page import PAGE, commands, converted, training_arguments
from verl_vaopd import cli
from verl_vaopd.own_data.fields import KEYS, lookup, parse_map
from verl_vaopd.own_data.pictures import image_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("own"))


def test_the_folder_of_pictures_becomes_data(folder):
    manifest = json.loads((folder / "data/own/manifest.json").read_text())
    assert manifest["counts"] == {"validation": 16, "train": 48}  # of 64
    assert manifest["notes"] == ["rows.jsonl: <image> was put in front of 64 questions"]
    row = rows_in(folder / "data/own/train.parquet")[0]
    number = row["extra_info"]["id"].removeprefix("rows/")
    assert row["images"][0]["bytes"] == (folder / f"pictures/{number}.png").read_bytes()


def test_the_pages_reward_judges_as_it_says(folder):
    """With the page's settings, which verl hands over (tests/data/test_reward.py)."""
    settings = OmegaConf.from_dotlist([each.lstrip("+") for each in training_arguments(folder) if "reward." in each])
    own = settings.reward.custom_reward_function
    found: dict = {}
    exec(Path(own.path).read_text(), found)
    asked = {"data_source": "rows", "ground_truth": "42", "extra_info": {}}
    for text, right in (("It is 42.", 1.0), ("12 + 30 = 43", 1.0), ("44", 0.0), ("no idea", 0.0)):  # within 1
        given = found[own.name](solution_str=text, **asked, **own.reward_kwargs)
        assert given == {"score": right, "acc": right}


def test_two_sources_are_weighted_as_the_page_says(tmp_path, folder, monkeypatch):
    rows = (folder / "rows.jsonl").read_text().splitlines()
    (tmp_path / "pictures").symlink_to(folder / "pictures")
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:4]))
    monkeypatch.chdir(tmp_path)
    ((_, *command),) = commands("verl-vaopd data convert --from a.jsonl")
    pq.write_table(pa.Table.from_pylist([json.loads(row) for row in rows[4:10]]), tmp_path / "b.parquet")
    assert cli.main(command) == 0
    ids = [row["extra_info"]["id"] for row in rows_in(tmp_path / "data/both/train.parquet")]
    assert {"a/3", "a/3#2"} <= set(ids) and len(ids) == 2 * 4 + 3  # and half of six


def test_every_map_of_the_page_is_one():
    maps = re.findall(r"`(question=[^`]+)`", PAGE)
    assert len(maps) == 5
    assert all(parse_map(text).images for text in maps) and set(KEYS) == {"question", "answer", "image", "id"}


def test_the_image_of_a_chat_of_parts_is_found():
    image = encoded("red")
    url = {"url": f"data:image/png;base64,{base64.b64encode(image).decode()}"}
    parts = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "What?", "image_url": None}]
    fields = parse_map(re.search(r"chats of parts \| `([^`]+)`", PAGE)[1])
    found = lookup({"messages": [{"content": parts}]}, fields.images[0])
    assert image_bytes(found, "image", ".") == [image]
