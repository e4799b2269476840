"""Rows are written a group at a time, and verl's own dataset class and the start-up checks read them."""

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from tests.data.upstream import encoded, question, write_geometry3k, write_virl39k
from verl_vaopd.data import rows
from verl_vaopd.data.__main__ import main


def row(index, size=1):
    return rows.verl_row("d", "train", index, str(index), "q", "a", "a", [b"x" * size])


def groups(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_groups_of_256_rows(tmp_path):
    assert groups(rows.write_rows([row(i) for i in range(600)], tmp_path / "a.parquet")) == [256, 256, 88]


def test_a_group_ends_early_where_images_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "GROUP_BYTES", 100)
    assert groups(rows.write_rows([row(i, size=40) for i in range(7)], tmp_path / "a.parquet")) == [3, 3, 1]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    samples = [
        question(1),
        question(2, question="<image>Which is larger, <image> or this?", image=["images/a.jpg", "images/b.png"]),
        question(3, question="2 + 2?", image=[]),
    ]
    members = {"images/v1-0.png": encoded("red", (64, 64)), "images/a.jpg": encoded("blue", (64, 96), "JPEG")}
    source = write_virl39k(folder / "source", samples, members | {"images/b.png": encoded("red", (96, 64))})
    write_geometry3k(source / "geometry3k")
    assert main(["virl39k", "--output", str(folder / "out"), "--source", str(source)]) == 0
    return folder / "out"


def test_the_start_up_checks_read_them(converted):
    from verl_vaopd.algorithm import pixelate
    from verl_vaopd.checks.rows import check_rows
    from verl_vaopd.tiny.processor import make_processor

    data = SimpleNamespace(
        prompt_key="prompt",
        image_key="images",
        max_prompt_length=512,
        mm_processor_kwargs=None,
        apply_chat_template_kwargs={},
    )
    for name in ("train", "validation"):
        check_rows(
            str(converted / f"{name}.parquet"), "data.train_files", make_processor(), data, pixelate, 2, "qwen3_vl"
        )


def test_verls_dataset_reads_them(converted, tmp_path):
    from omegaconf import OmegaConf

    from verl_vaopd.data.dataset import VisionDataset, images_of
    from verl_vaopd.tiny.processor import make_processor

    processor = make_processor()
    config = OmegaConf.create({"cache_dir": str(tmp_path), "filter_overlong_prompts": False, "max_prompt_length": 512})
    dataset = VisionDataset(str(converted / "train.parquet"), processor.tokenizer, config, processor)
    assert len(dataset) == 3
    sizes = [[image.size for image in images_of(dataset[i]["raw_prompt"])] for i in range(3)]
    assert sizes == [[(64, 64)], [(64, 96), (96, 64)], []]
    assert [dataset[i]["reward_model"]["ground_truth"] for i in range(3)] == ["1", "2", "3"]
