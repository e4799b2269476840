"""Polygons: numbers that keep to their split, labels where they are said to be, answers that add up."""

import io
import random
import re

import numpy as np
import pytest
from PIL import Image

from verl_vaopd.data import perimeter
from verl_vaopd.data.synthetic_geometry import make_row as figures_row
from verl_vaopd.data.synthetic_geometry import write_rows


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((2, 3, 4), "3 sides:a2b3c4.2+b3=5.5+c4=9.\\boxed{9}"),
        # a carry beyond the first ten is a step of its own
        ((7, 4, 9), "3 sides:a7b4c9.7+b4=11.11+c9:1+9=10,1+1=2,20.\\boxed{20}"),
        ((9, 9, 1, 1), "4 sides:a9b9c1d1.9+b9=18.18+c1=19.19+d1:9+1=10,1+1=2,20.\\boxed{20}"),
    ],
)
def test_worked_answer(numbers, expected):
    assert perimeter.worked_answer(numbers) == expected


def test_a_polygon_is_in_one_split_wherever_its_numbers_begin():
    assert perimeter.split_of((1, 2, 3)) == perimeter.split_of((3, 1, 2)) == perimeter.split_of((3, 2, 1))
    for split in perimeter.SPLITS:
        for row in perimeter.make_rows(split, 30):
            numbers = tuple(map(int, re.findall("[a-l]([1-9])", row["extra_info"]["answer"].split(".")[0])))
            assert perimeter.split_of(numbers) == split
            assert row["reward_model"]["ground_truth"] == str(sum(numbers))
    with pytest.raises(ValueError, match="train, validation, test"):
        perimeter.make_row("dev", 0)


def test_rows_are_those_of_the_figures_in_form(tmp_path):
    row, other = perimeter.make_row("test", 3), figures_row("test", 3)
    assert list(row) == list(other) and list(row["extra_info"]) == list(other["extra_info"])
    assert row == perimeter.make_row("test", 3) != perimeter.make_row("test", 3, seed=1)
    assert Image.open(io.BytesIO(row["images"][0]["bytes"])).size == (96, 96)
    assert write_rows([row], tmp_path / "rows.parquet").exists()


def test_few_sides_are_usual_and_twelve_are_there():
    rng = random.Random(0)
    counts = [len(perimeter.draw_numbers("train", rng)) for _ in range(1000)]
    assert min(counts) == 3 and max(counts) == 12 and np.median(counts) <= 5


def test_numbers_go_clockwise_from_the_top_each_in_a_square_of_its_own():
    _, squares = perimeter.draw_polygon((1, 2, 3, 4), random.Random(0))
    top, right, bottom, left = squares  # (column, row) of 6 x 6
    assert top[1] <= 1 and bottom[1] >= 4 and left[0] <= 1 and right[0] >= 4
    images, numbers, cells = perimeter.draw_pool("train", 60, seed=0)
    assert images.shape == (60, 96, 96, 3) and cells.shape == (60, 36, 2)
    for own, row in zip(numbers, cells, strict=True):
        assert {int(side): int(number) for number, side in row if number} == dict(enumerate(own, start=1))
