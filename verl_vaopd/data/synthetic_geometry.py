"""Small drawn figures whose numbers must be read off the image: the data of the embedded default.

A triangle or a rectangle carries two two-digit labels; the answer is their sum. Which split a figure belongs to is a
function of its unordered pair of labels, so no sum of a held-out split occurs in training in either order.
"""

import hashlib
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

DATA_SOURCE = "synthetic_geometry"
SIDE = 64  # pixels
LABELS = range(10, 50)
SPLITS = {"train": 2000, "validation": 200, "test": 200}  # rows
FONT_SIZES = (15, 16, 17)  # pixels
QUESTIONS = (
    "What is the sum of the two labelled sides?",
    "Add the two lengths shown in the figure.",
    "How long are both marked sides together?",
    "Two sides carry a number. Find the total.",
)
READINGS = ("The sides are {} and {}.", "I read {} and {}.", "The figure shows {} and {}.")


def split_of(first: int, second: int) -> str:
    """The only split in which these two labels occur: about 80% of the pairs train, 10% validation, 10% test."""
    low, high = sorted((first, second))
    bucket = hashlib.sha256(f"{low}+{high}".encode()).digest()[0] % 10
    return {0: "validation", 1: "test"}.get(bucket, "train")


def pairs_of(split: str) -> list[tuple[int, int]]:
    """Ordered label pairs of a split.

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return [(first, second) for first in LABELS for second in LABELS if split_of(first, second) == split]


def draw_figure(first: int, second: int, rng: random.Random) -> Image.Image:
    """A 64 x 64 RGB figure. Triangle: first label left, second right. Rectangle: first on top, second at a side."""
    paper = tuple(rng.randint(232, 255) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)

    def near(x, y, reach=2):
        return x + rng.randint(-reach, reach), y + rng.randint(-reach, reach)

    def colour(brightest):
        return tuple(rng.randint(0, brightest) for _ in range(3))

    line, width = colour(170), rng.randint(1, 2)
    if rng.random() < 0.5:
        draw.polygon([near(32, 18, 3), near(8, 59), near(56, 59)], outline=line, width=width)
        centres = near(13, 17), near(51, 17)
    else:
        right = rng.random() < 0.5
        (left, top), (far, bottom) = near(5 if right else 25, 22), near(39 if right else 59, 57)
        draw.rectangle([left, top, far, bottom], outline=line, width=width)
        centres = near(32, 11), near(51 if right else 13, 40)
    font = ImageFont.load_default(size=rng.choice(FONT_SIZES))
    for centre, number in zip(centres, (first, second), strict=True):
        draw.text(centre, str(number), fill=colour(110), font=font, anchor="mm")
    return image


def worked_answer(first: int, second: int, reading: str = READINGS[0]) -> str:
    """Read both labels, add ones and tens digit by digit, box the sum."""
    (a, b), (c, d) = divmod(first, 10), divmod(second, 10)
    tens = f"{a}+{c}+1" if b + d > 9 else f"{a}+{c}"
    return (
        f"{reading.format(first, second)} Ones: {b}+{d}={b + d}. "
        f"Tens: {tens}={a + c + (b + d) // 10}. \\boxed{{{first + second}}}"
    )


def make_row(split: str, index: int, seed: int = 0) -> dict:
    """Row ``index`` of a split, in verl's format; the image is PNG bytes. The same for equal arguments."""
    rng = random.Random(f"{DATA_SOURCE}/{split}/{index}/{seed}")
    first, second = rng.choice(pairs_of(split))
    question, reading = rng.choice(QUESTIONS), rng.choice(READINGS)
    buffer = io.BytesIO()
    draw_figure(first, second, rng).save(buffer, format="PNG")
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": f"<image>{question}"}],
        "images": [{"bytes": buffer.getvalue(), "path": None}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(first + second)},
        "extra_info": {
            "split": split,
            "index": index,
            "id": f"{DATA_SOURCE}/{split}/{index}",
            "question": question,
            "answer": worked_answer(first, second, reading),
        },
    }


def make_rows(split: str, count: int | None = None, seed: int = 0) -> list[dict]:
    """The first ``count`` rows of a split (default: the size in ``SPLITS``)."""
    return [make_row(split, index, seed) for index in range(SPLITS[split] if count is None else count)]


def write_rows(rows: list[dict], path: str | Path) -> Path:
    """Write rows as parquet. Returns the path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    details = {"split": text, "index": pa.int64(), "id": text, "question": text, "answer": text}
    schema = pa.schema(
        {
            "data_source": text,
            "prompt": pa.list_(pa.struct({"role": text, "content": text})),
            "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": text})),
            "ability": text,
            "reward_model": pa.struct({"style": text, "ground_truth": text}),
            "extra_info": pa.struct(details),
        }
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return Path(path)


def draw_pool(split: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Figures for training from scratch, never written to a file.

    Returns:
        images [count, 64, 64, 3] uint8, labels [count, 2] int64: the two numbers in the order of the answer.
    """
    rng = random.Random(f"{DATA_SOURCE}/pool/{split}/{seed}")
    pairs = pairs_of(split)
    labels = [rng.choice(pairs) for _ in range(count)]
    images = np.stack([np.asarray(draw_figure(first, second, rng)) for first, second in labels])
    return images, np.array(labels, dtype=np.int64)
