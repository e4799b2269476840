"""Published configs, as far as they bear on shapes: facts, in JSON files beside this one."""

import json
from pathlib import Path

SIZES = ("2B", "4B", "8B", "32B")
MOE_SIZES = ("30B-A3B", "235B-A22B")
QWEN2_5_SIZES = ("3B", "7B", "32B", "72B")


def _published(prefix: str, sizes: tuple[str, ...]) -> dict[str, dict]:
    files = {size: f"{prefix}_{size.lower().replace('-', '')}.json" for size in sizes}
    return {size: json.loads((Path(__file__).parent / file).read_text()) for size, file in files.items()}


QWEN3_VL_INSTRUCT = _published("qwen3_vl", SIZES)
"""What the ``config.json`` of Qwen/Qwen3-VL-<size>-Instruct says of shapes, rotary positions and tokens of images."""

QWEN3_VL_MOE_INSTRUCT = _published("qwen3_vl", MOE_SIZES)
"""The same of those with experts."""

QWEN2_5_VL_INSTRUCT = _published("qwen2_5_vl", QWEN2_5_SIZES)
"""The same of Qwen/Qwen2.5-VL-<size>-Instruct."""

PUBLISHED = {
    f"Qwen/{family}-{size}-Instruct": config
    for family, configs in (
        ("Qwen3-VL", QWEN3_VL_INSTRUCT | QWEN3_VL_MOE_INSTRUCT),
        ("Qwen2.5-VL", QWEN2_5_VL_INSTRUCT),
    )
    for size, config in configs.items()
}
"""By their names on the hub."""
