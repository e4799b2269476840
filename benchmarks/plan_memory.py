"""Holds the plan's memory against the engines': a step's live bytes at published widths, without a GPU; prints a table.

    python -m benchmarks.plan_memory [--save FILE]

The real student and the real teacher run under FSDP2 as one of 8 ranks, hollow (benchmarks/live_bytes.py). Nothing of
CUDA itself is seen: its allocator's rounding, work space of its kernels.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

import torch

from benchmarks.hollow_engines import MICRO_BATCHES, RANKS, TEACHER, Case, measured, one_of_many_ranks
from benchmarks.measure import markdown_table, publish
from verl_vaopd.costs.held import COPIES, Loss, fullest, student_moments, teacher_moments
from verl_vaopd.costs.shapes import BF16, FP32, ModelShape

CHUNK_ROWS = 832  # default_chunk_size in bf16


def without_layer(model: ModelShape) -> int:
    """Parameters of the deepstack mergers that a model cut to few layers has no layer for: they get no gradient."""
    vision = model.vision
    merged = vision.merge * vision.hidden_size
    merger = vision.merger_matrix + 3 * merged + vision.out_hidden_size  # two biases, the norm's weight and bias
    return max(0, len(vision.deepstack_visual_indexes) - model.text.num_hidden_layers) * merger


def predicted(case: Case) -> dict[str, float]:
    """Bytes: ``resident`` between phases, ``peak`` of the engine's phase, ``updating`` of the optimiser's."""
    model, batch, shard = case.shape, case.batch, case.shape.total / RANKS
    if case.role == "teacher":
        resident = BF16 * shard
        hidden = BF16 * model.text.hidden_size * batch.rows / 2  # of the first micro-batch, one view
        moments = teacher_moments(model, batch, logits_rows=CHUNK_ROWS, whole=False)
        return {"resident": resident, "peak": resident + hidden + sum(fullest(moments).values())}
    width = TEACHER.text.hidden_size if case.needs.distils else 0
    weights = FP32 * shard + BF16 * TEACHER.text.vocab_size * width
    hidden = COPIES * BF16 * width * MICRO_BATCHES * batch.rows
    moments = student_moments(model, batch, case.checkpointing, Loss(case.needs.distils, CHUNK_ROWS))
    trained = FP32 * (model.total - without_layer(model)) / RANKS
    return {
        "resident": weights,
        "peak": weights + hidden + FP32 * shard + sum(fullest(moments).values()),
        # Gradients, two states, temporaries; no micro-batch has a copy of the hidden states any more.
        "updating": weights + hidden * (COPIES - 1) / COPIES + 4 * trained,
    }


SIZES = ("2B", "4B", "8B", "32B")
ROLES = ("teacher", "student")
WIDTHS = [Case(role, size, layers, response=4000) for role in ROLES for size in SIZES for layers in (2, 4)]
"""Every published width with few layers; the differences are a layer's."""
LONGER = [Case(role, size, 4, response=8000) for role in ROLES for size in ("2B", "8B")]
"""The differences to the above are a token's."""
IMAGES = [Case(role, size, 4, response=500, image_side=80) for role in ROLES for size in ("2B", "8B")]
OTHERWISE = [
    Case("student", "2B", 4, response=4000, method="grpo"),
    Case("student", "2B", 4, response=2000, image_side=40, method="papo"),
    Case("student", "2B", 4, response=1000, rollouts=4, text_tokens=4000),
    Case("student", "2B", 4, response=2000, image_side=30, checkpointing=False),
]
WHOLE = [
    Case("student", "2B", rollouts=2, text_tokens=192, image_side=90, prompts=2, response=4000),
    Case("teacher", "8B", rollouts=2, text_tokens=192, image_side=90, response=4096),
    Case("teacher", "32B", rollouts=2, text_tokens=192, image_side=90, response=4096),
]
"""All layers, the largest micro-batches of the recipes: about 32,768 tokens, half of them image."""
CASES = [*WIDTHS, *LONGER, *IMAGES, *OTHERWISE, *WHOLE]


def measure(cases: Sequence[Case]) -> Iterator[dict[str, float]]:
    """:func:`measured` of each, in this process."""
    os.environ["VERL_PLATFORM"] = "cpu"
    torch.set_num_threads(1)
    with one_of_many_ranks():
        for case in cases:
            print(f"{case} ...", file=sys.stderr, flush=True)
            with contextlib.redirect_stdout(sys.stderr):  # the host prints
                found = measured(case)
            yield found


HEADING = ("model", "layers", "what", "tokens", "of them image", "figure", "predicted, GB", "measured, GB", "ratio")


def rows(cases: Sequence[Case]) -> Iterator[list]:
    """Of the table: one a figure."""
    for case, found in zip(cases, measure(cases), strict=True):
        what = [case.method] if case.role == "student" else []
        what += [f"K = {case.rollouts}"] * (case.rollouts > 1) + ["no checkpointing"] * (not case.checkpointing)
        batch = case.batch
        image = batch.patches / case.shape.vision.merge
        start = [f"{case.role} {case.size}", case.shape.text.num_hidden_layers, ", ".join(what)]
        for name, value in predicted(case).items():
            figures = [f"{value / 1e9:.2f}", f"{found[name] / 1e9:.2f}", f"{value / found[name]:.2f}"]
            yield [*start, f"{batch.tokens:,}", f"{image:,.0f}", name, *figures]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Memory of a step as planned and as held, as a markdown table.")
    parser.add_argument("--save", metavar="FILE", help="write the page there as well")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # a list of cases: their measurements as JSON
    settings = parser.parse_args(argv)
    if settings.case:
        print(json.dumps(list(measure([Case(**each) for each in json.loads(settings.case)]))))
        return
    publish("Memory as planned and as held", settings, [markdown_table(HEADING, rows(CASES), text_columns=3)])


if __name__ == "__main__":
    main()
