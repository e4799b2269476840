"""The published Qwen3-VL-Instruct configs, as far as they bear on shapes: facts, in JSON files beside this one."""

import json
from pathlib import Path

SIZES = ("2B", "4B", "8B", "32B")

QWEN3_VL_INSTRUCT = {
    size: json.loads((Path(__file__).parent / f"qwen3_vl_{size.lower()}.json").read_text()) for size in SIZES
}
"""What the ``config.json`` of Qwen/Qwen3-VL-<size>-Instruct says of shapes, rotary positions and tokens of images."""
