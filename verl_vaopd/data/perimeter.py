"""Polygons of 3 to 12 sides with a number at each: the tiny task whose answers have a heavy tail of lengths.

The answer reads the numbers clockwise from the top, where side a is, and adds them one by one, so a polygon of many
sides takes many times the tokens of a triangle. Which split a polygon belongs to is a function of its numbers in
ascending order.
"""

import hashlib
import io
import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DATA_SOURCE = "synthetic_perimeter"
SIDE = 96  # pixels
CELL = 16  # pixels of a visual token's side
LABELS = range(1, 10)
NAMES = "abcdefghijkl"
SPLITS = {"train": 2000, "validation": 200, "test": 200}  # rows
SIDES = {3: 20, 4: 20, 5: 15, 6: 12, 7: 9, 8: 7, 9: 6, 10: 4, 11: 4, 12: 3}  # per cent of the rows
FONT_SIZES = (13, 14, 15)  # pixels
QUESTIONS = (
    "What is the perimeter of the polygon?",
    "Add all sides of the figure.",
    "How long is the way around?",
    "Every side carries a number. Find the total.",
)


def split_of(numbers: tuple[int, ...]) -> str:
    """The only split in which these numbers occur together: about 80% train, 10% validation, 10% test."""
    bucket = hashlib.sha256("+".join(map(str, sorted(numbers))).encode()).digest()[0] % 10
    return {0: "validation", 1: "test"}.get(bucket, "train")


def draw_numbers(split: str, rng: random.Random) -> tuple[int, ...]:
    """The numbers of one polygon, clockwise.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    (count,) = rng.choices(list(SIDES), list(SIDES.values()))
    while True:
        numbers = tuple(rng.choice(LABELS) for _ in range(count))
        if split_of(numbers) == split:
            return numbers


def draw_polygon(numbers: tuple[int, ...], rng: random.Random) -> tuple[Image.Image, list[tuple[int, int]]]:
    """A 96 x 96 RGB polygon, its first side on top, each number in a square of its own.

    Returns:
        The image, and the square (column, row) of every number.
    """
    paper = tuple(rng.randint(232, 255) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    count, squares = len(numbers), []
    while len(set(squares)) < count:
        radius, turn = rng.uniform(26, 30), math.radians(rng.uniform(-5, 5))

        def at(distance: float, side: float) -> tuple[float, float]:
            """A point so far from the middle, in the direction of a side's middle (whole) or end (half)."""
            angle = 2 * math.pi * side / count + turn  # noqa: B023
            return SIDE / 2 + distance * math.sin(angle), SIDE / 2 - distance * math.cos(angle)

        corners = [at(radius, side + 0.5) for side in range(count)]
        outside = radius * math.cos(math.pi / count) + 11
        squares = [(int(x) // CELL, int(y) // CELL) for x, y in (at(outside, side) for side in range(count))]

    line = tuple(rng.randint(0, 170) for _ in range(3))
    draw.polygon(corners, outline=line, width=rng.randint(1, 2))
    font = ImageFont.load_default(size=rng.choice(FONT_SIZES))
    for square, number in zip(squares, numbers, strict=True):
        centre = [CELL * place + CELL // 2 + rng.randint(-2, 2) for place in square]
        draw.text(centre, str(number), fill=tuple(rng.randint(0, 110) for _ in range(3)), font=font, anchor="mm")
    return image, squares


def worked_answer(numbers: tuple[int, ...]) -> str:
    """Count, name and read the sides, add them one by one, a carry in a step of its own, box the sum."""
    total, steps = numbers[0], []
    for name, number in zip(NAMES[1:], numbers[1:], strict=False):
        tens, ones = divmod(total, 10)
        after = total + number
        carried = f":{ones}+{number}={ones + number},{tens}+1={tens + 1},{after}" if tens and ones + number > 9 else ""
        steps.append(f"{total}+{name}{number}{carried or f'={after}'}.")
        total = after
    read = "".join(f"{name}{number}" for name, number in zip(NAMES, numbers, strict=False))
    return f"{len(numbers)} sides:{read}.{''.join(steps)}\\boxed{{{total}}}"


def make_row(split: str, index: int, seed: int = 0) -> dict:
    """Row ``index`` of a split, in verl's format; the image is PNG bytes. The same for equal arguments."""
    rng = random.Random(f"{DATA_SOURCE}/{split}/{index}/{seed}")
    numbers, question = draw_numbers(split, rng), rng.choice(QUESTIONS)
    buffer = io.BytesIO()
    draw_polygon(numbers, rng)[0].save(buffer, format="PNG")
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": f"<image>{question}"}],
        "images": [{"bytes": buffer.getvalue(), "path": None}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(sum(numbers))},
        "extra_info": {
            "split": split,
            "index": index,
            "id": f"{DATA_SOURCE}/{split}/{index}",
            "question": question,
            "answer": worked_answer(numbers),
        },
    }


def make_rows(split: str, count: int, seed: int = 0) -> list[dict]:
    """The first ``count`` rows of a split."""
    return [make_row(split, index, seed) for index in range(count)]


def draw_pool(split: str, count: int, seed: int) -> tuple[np.ndarray, list[tuple[int, ...]], np.ndarray]:
    """Polygons for training from scratch, never written to a file.

    Returns:
        images [count, 96, 96, 3] uint8; the numbers of each, clockwise; cells [count, 36, 2] int64: the number in
        each square of 16 x 16 pixels, row by row, and its side (1 for a); 0 and 0 for none.
    """
    rng = random.Random(f"{DATA_SOURCE}/pool/{split}/{seed}")
    numbers = [draw_numbers(split, rng) for _ in range(count)]
    images, cells = [], np.zeros((count, (SIDE // CELL) ** 2, 2), dtype=np.int64)
    for row, each in enumerate(numbers):
        image, squares = draw_polygon(each, rng)
        images.append(np.asarray(image))
        for side, ((column, place), number) in enumerate(zip(squares, each, strict=True), start=1):
            cells[row, place * (SIDE // CELL) + column] = number, side
    return np.stack(images), numbers, cells
