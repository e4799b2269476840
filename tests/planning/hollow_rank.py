"""A small student and a small teacher, computed and hollow: what they hold, as JSON. Run by test_measured.py."""

import contextlib
import copy
import json
import os
import sys

import torch

from benchmarks import hollow_engines, live_bytes
from benchmarks.hollow_engines import Case, measured, one_of_many_ranks
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape

SMALL = copy.deepcopy(QWEN3_VL_INSTRUCT["2B"])
SMALL["text_config"] |= dict(hidden_size=64, intermediate_size=160, num_hidden_layers=4, num_attention_heads=2)
SMALL["text_config"] |= dict(num_key_value_heads=1, vocab_size=2000)
SMALL["vision_config"] |= dict(depth=3, hidden_size=64, intermediate_size=96, num_heads=2, out_hidden_size=64)
SMALL["vision_config"]["deepstack_visual_indexes"] = [0, 1]
SMALL |= dict(image_token_id=1990, video_token_id=1991, vision_start_token_id=1992, vision_end_token_id=1993)


def main() -> None:
    os.environ["VERL_PLATFORM"] = "cpu"
    torch.set_num_threads(1)
    QWEN3_VL_INSTRUCT["small"] = SMALL
    hollow_engines.TEACHER = ModelShape.of(SMALL)
    hollow_engines.IMAGE_TOKEN, hollow_engines.VOCABULARY = SMALL["image_token_id"], 1900
    live_bytes.LARGE = 2**15  # tokens x 64 numbers are large, lengths and masks are not: both ways are taken
    sizes = dict(rollouts=2, response=300, image_side=10, kernel="sdpa")  # the varlen kernel needs a GPU
    with contextlib.redirect_stdout(sys.stderr), one_of_many_ranks():
        held = {
            role: [measured(Case(role, "small", **sizes), hollow) for hollow in (False, True)]
            for role in ("student", "teacher")
        }
    print(json.dumps(held))


if __name__ == "__main__":
    main()
