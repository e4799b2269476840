"""Splits that cannot overlap, rows that look like the real data's, equal bytes for equal seeds."""

import io
import re

import pytest
from PIL import Image

from verl_vaopd.data import synthetic_geometry as geometry


def test_splits_share_no_pair_in_either_order():
    pairs = {split: {tuple(sorted(pair)) for pair in geometry.pairs_of(split)} for split in geometry.SPLITS}
    assert sum(len(some) for some in pairs.values()) == 820  # 40 labels: 40 * 41 / 2 unordered pairs
    assert not (pairs["train"] & pairs["validation"] or pairs["train"] & pairs["test"])
    assert not pairs["validation"] & pairs["test"]
    assert all(geometry.split_of(a, b) == geometry.split_of(b, a) == "test" for a, b in pairs["test"])
    assert min(map(len, pairs.values())) > 50


@pytest.mark.parametrize("split", geometry.SPLITS)
def test_rows_keep_to_their_split(split):
    for row in geometry.make_rows(split, 30):
        first, second = map(int, re.findall(r"\d+", row["extra_info"]["answer"])[:2])
        assert geometry.split_of(first, second) == split
        assert row["reward_model"]["ground_truth"] == str(first + second)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, validation, test"):
        geometry.pairs_of("dev")


def test_row_schema():
    row = geometry.make_row("validation", 7)
    assert list(row) == ["data_source", "prompt", "images", "ability", "reward_model", "extra_info"]
    assert row["data_source"] == "synthetic_geometry"
    assert row["prompt"] == [{"role": "user", "content": "<image>" + row["extra_info"]["question"]}]
    assert row["images"][0]["path"] is None
    image = Image.open(io.BytesIO(row["images"][0]["bytes"]))
    assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"]["split"] == "validation" and row["extra_info"]["index"] == 7
    assert row["extra_info"]["answer"].endswith(f"\\boxed{{{row['reward_model']['ground_truth']}}}")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (23, 45, "The sides are 23 and 45. Ones: 3+5=8. Tens: 2+4=6. \\boxed{68}"),
        (39, 47, "The sides are 39 and 47. Ones: 9+7=16. Tens: 3+4+1=8. \\boxed{86}"),  # carry
        (25, 15, "The sides are 25 and 15. Ones: 5+5=10. Tens: 2+1+1=4. \\boxed{40}"),
    ],
)
def test_worked_answer(first, second, expected):
    assert geometry.worked_answer(first, second) == expected


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    files = [
        geometry.write_rows(geometry.make_rows("train", 5, seed), tmp_path / f"{name}.parquet").read_bytes()
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    assert files[0] == files[1] != files[2]


def test_parquet_reads_back_as_the_same_rows(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = geometry.make_rows("test", 4)
    path = geometry.write_rows(rows, tmp_path / "test.parquet")
    read = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert list(read) == rows


def test_pool_draws_the_pairs_of_its_split():
    images, labels = geometry.draw_pool("validation", 20, seed=0)
    assert images.shape == (20, 64, 64, 3) and images.dtype == "uint8"
    assert all(geometry.split_of(first, second) == "validation" for first, second in labels.tolist())
    assert len({image.tobytes() for image in images}) == 20
