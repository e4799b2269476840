"""The padded layout against the packed one on the same rollouts: teacher scoring, and a student's forward and backward.

    python -m benchmarks.layouts [--save FILE]

Both layouts give the same (checked, 1e-4 nats). K rollouts of one prompt with one image, whose lengths differ: the
packed layout runs prompt and image once a view, the padded one K times, and computes padding. Model and CPU seconds are
those of benchmarks/teacher_scoring.py.
"""

import argparse
import sys
import time

import torch

from benchmarks.measure import markdown_table, publish
from benchmarks.teacher_scoring import VOCAB_SIZE, make_model, make_rollouts
from verl_vaopd.algorithm import token_log_probs
from verl_vaopd.model.families import family_of
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.packing import collate
from verl_vaopd.model.padded import collate_padded, install_padded_forward
from verl_vaopd.model.row import Row

LENGTHS = (1.0, 0.75, 0.5, 0.25)
"""Of the rollouts' responses, as shares of the longest."""


def rows_of(prompt: int, longest: int) -> tuple[list[Row], list[Row]]:
    """Rows under both views, and under one."""
    rollouts, views = make_rollouts(prompt, longest, len(LENGTHS))
    lengths = [max(1, int(share * longest)) for share in LENGTHS]
    rows = [
        Row(ids[: prompt + length], length, view)
        for view in views
        for ids, length in zip(rollouts, lengths, strict=True)
    ]
    return rows, rows[: len(LENGTHS)]


def score(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(
            **batch.model_inputs, head_fn=lambda h, head: token_log_probs(h, head, batch.response_ids, VOCAB_SIZE)
        )


def train(model, batch) -> torch.Tensor:
    model.zero_grad()
    loss = model(
        **batch.model_inputs,
        head_fn=lambda h, head: (h @ head.t()).log_softmax(-1).gather(1, batch.response_ids[:, None]).mean(),
    )
    loss.backward()
    return loss.detach()


def least_seconds(ways, repeats: int) -> tuple[list[float], list[torch.Tensor]]:
    results = [way() for way in ways]  # also the warm-up
    seconds = [[] for _ in ways]
    for _ in range(repeats):  # in turn, so that a slow moment of the machine hits all
        for way, times in zip(ways, seconds, strict=True):
            start = time.process_time()
            way()
            times.append(time.process_time() - start)
    return [min(times) for times in seconds], results


def measure(packed, padded, prompt: int, longest: int, repeats: int) -> list:
    family = family_of(packed.config)
    line = [prompt, longest]
    for run, rows in zip((score, train), rows_of(prompt, longest), strict=True):
        batches = collate(rows, family, "cpu"), collate_padded(rows, family, "cpu", family.blank_row(None))
        seconds, results = least_seconds(
            [lambda b=batches[0], run=run: run(packed, b), lambda b=batches[1], run=run: run(padded, b)], repeats
        )
        gap = float((results[0] - results[1]).abs().max())
        assert gap < 1e-4, f"the layouts differ by {gap:.1e} nats"
        line += [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", f"{seconds[1] / seconds[0]:.2f}"]
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[256, 1024], help="prompt tokens")
    parser.add_argument("--responses", type=int, nargs="+", default=[128, 512], help="tokens of the longest response")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", help="write the page to this file")
    args = parser.parse_args()
    args.threads = 1
    torch.set_num_threads(args.threads)
    packed, padded = (make_model(args.hidden, args.layers) for _ in range(2))
    install_forward(packed, family_of(packed.config))
    install_padded_forward(padded)
    rows = []
    for prompt in args.prompts:
        for longest in args.responses:
            rows.append(measure(packed, padded, prompt, longest, args.repeats))
            print(*rows[-1], file=sys.stderr, flush=True)
    of = [f"{what} {layout}" for what in ("teacher", "student") for layout in ("packed, s", "padded, s", "ratio")]
    publish(
        f"Padded against packed: {len(LENGTHS)} rollouts, hidden size {args.hidden}, {args.layers} layers",
        args,
        [markdown_table(["P", "longest R", *of], rows, text_columns=0)],
    )


if __name__ == "__main__":
    main()
