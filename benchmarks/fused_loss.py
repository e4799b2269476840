"""Measures the fused weighted reverse KL, forward and backward, against other ways to the same loss; prints a table.

    python -m benchmarks.fused_loss [--rows 256 1024] [--dtypes fp32] [--methods fused plain] [--save FILE]

Each method runs in a process of its own. Liger's and TRL's losses take part where `liger-kernel` and `trl` are
installed; this project does not need them.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.kl_methods import DTYPES, HELD_CHUNK, METHODS, Case, make_inputs
from benchmarks.measure import (
    GIB,
    PeakMemory,
    available_memory,
    machine_description,
    markdown_table,
    run_in_fresh_process,
    seconds,
)
from verl_vaopd.algorithm import default_chunk_size


def prepared(case: Case) -> tuple[Callable[[], dict], Callable[[], None]]:
    """A method on inputs of its own: forward and backward, which returns loss and mean_kl; freeing the gradients."""
    x = make_inputs(case)
    forward = METHODS[case.method].prepare(x, case.chunk_size)

    def call() -> dict:
        if case.method == "gemms":
            x.student_hidden.grad, x.student_head.grad = forward()
            return {}
        loss, kl = forward()
        loss.backward()
        assert x.student_hidden.grad is not None and x.student_head.grad is not None
        return {"loss": loss.item(), "mean_kl": kl.mean().item()}

    def free() -> None:
        x.student_hidden.grad = x.student_head.grad = None

    return call, free


def measure(case: Case) -> dict:
    """seconds, peak (bytes), loss and mean_kl of a method; or {"failed": why}."""
    method = METHODS[case.method]
    needed, available = case.inputs + method.estimate(case), available_memory(case.device)
    if needed > 0.95 * available:
        return {"failed": f"does not fit: about {needed / GIB:.1f} GiB, {available / GIB:.1f} free"}
    tiny = replace(case, rows=2, vocab_size=64, student_width=8, teacher_width=8)
    prepared(tiny)[0]()  # loads what the libraries load at first use
    call, free = prepared(case)
    if method.package:
        call()
        free()
    with PeakMemory(case.device) as peak:
        values = call()
    times = []
    for _ in range(case.repeats):
        free()
        times.append(seconds(call, case.device))
    return {"seconds": min(times), "peak": peak.bytes, "work": peak.bytes - case.gradients, **values}


HEADING = (
    *("dtype", "rows", "method", "seconds", "/ GEMMs", "peak, GiB", "/ plain", "/ held"),
    *("less gradients, GiB", "/ plain", "/ held", "loss"),
    *("from plain's", "relative"),
)
NOTES = (
    "seconds: forward and backward, least of {repeats} after one that is not timed; / GEMMs: over those of the GEMMs.",
    "peak: memory above the inputs in the first call (for other packages the second, as the first may compile), with "
    "the gradients, which every method returns, and less them; / plain, / held: over theirs. The GEMMs allocate "
    "what they return, as every method does.",
    "loss: weighted sum of the KL over rows; (mean): the method knows no weights and is compared by the mean.",
    "from plain's: deviation of the loss from that of the full logits in the same dtype.",
    "chunks: {chunk_size} of rows (fused, GEMMs), {held_chunk} (held); those of Liger and TRL are their own.",
)


def cells(results: dict[str, dict], case: Case) -> Iterator[list]:
    """Rows of the table: the methods measured at one dtype and number of rows."""

    def over(result: dict, name: str, key: str) -> str | None:
        base = results.get(name, {}).get(key)
        return f"{result[key] / base:.2f}" if base else None

    for name, result in results.items():
        start = [case.dtype, case.rows, METHODS[name].title]
        if "failed" in result:
            yield [*start, result["failed"], *[None] * (len(HEADING) - 4)]
            continue
        start += [f"{result['seconds']:.3g}", over(result, "gemms", "seconds")]
        if name == "gemms":
            yield [*start, *[None] * (len(HEADING) - 5)]
            continue
        key = "loss" if METHODS[name].weighted else "mean_kl"
        value, expected = result[key], results.get("plain", {}).get(key)
        yield [
            *start,
            f"{result['peak'] / GIB:.2f}",
            *(over(result, other, "peak") for other in ("plain", "held")),
            f"{result['work'] / GIB:.2f}",
            *(over(result, other, "work") for other in ("plain", "held")),
            f"{value:.6f}{'' if METHODS[name].weighted else ' (mean)'}",
            *([None] * 2 if expected is None else (f"{abs(value - expected):.0e}", f"{abs(value / expected - 1):.0e}")),
        ]


def result_of(case: Case) -> dict:
    """The measurement in a process of its own, if what it needs is installed."""
    method = METHODS[case.method]
    if method.package and not find_spec(method.package):
        return {"failed": "not installed"}
    if method.cuda_only and case.device != "cuda":
        return {"failed": "needs CUDA"}
    return run_in_fresh_process("benchmarks.fused_loss", asdict(case))


def table(settings: argparse.Namespace, device: str) -> Iterator[list]:
    """Measures; rows of the table of one device."""
    for dtype in settings.dtypes:
        for rows in settings.rows:
            chunk_size = settings.chunk_size or default_chunk_size(settings.vocab_size, dtype=DTYPES[dtype])
            sizes = (settings.vocab_size, settings.student_width, settings.teacher_width, chunk_size)
            case = Case("", device, dtype, rows, *sizes, settings.threads, settings.repeats)
            results = {}
            for method in settings.methods:
                print(
                    f"{device} {dtype} {rows} rows: {METHODS[method].title} ...", end=" ", file=sys.stderr, flush=True
                )
                results[method] = result_of(replace(case, method=method))
                print(results[method].get("failed", "done"), file=sys.stderr, flush=True)
            yield from cells(results, case)


def page(settings: argparse.Namespace, command: str) -> Iterator[str]:
    """Lines of the whole page."""
    yield "# Fused weighted reverse KL against other ways to the same loss"
    yield ""
    yield (
        f"V = {settings.vocab_size}, Ds = {settings.student_width}, Dt = {settings.teacher_width}; gradients to the "
        f"student's hidden states and head. {date.today()}, `{command}`"
    )
    for device in settings.devices:
        rows = list(table(settings, device))
        yield ""
        yield f"## {device}: {machine_description(device, settings.threads)}"
        yield ""
        yield from markdown_table(HEADING, rows, text_columns=3)
    yield ""
    for note in NOTES:
        yield "- " + note.format(
            repeats=settings.repeats, chunk_size=settings.chunk_size or "the default number", held_chunk=HELD_CHUNK
        )


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description="Time and memory of the fused loss, as a markdown table.")
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 1024, 2048], help="response tokens")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--device", nargs="+", default=devices, choices=devices, dest="devices")
    parser.add_argument("--vocab-size", type=int, default=151_936)
    parser.add_argument("--student-width", type=int, default=2048)
    parser.add_argument("--teacher-width", type=int, default=4096)
    parser.add_argument("--chunk-size", type=int, help="rows at a time; by default the function's own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the page there as well")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # one measurement, in this process
    settings = parser.parse_args(argv)
    if settings.case:
        case = Case(**json.loads(settings.case))
        torch.set_num_threads(case.threads)
        print(json.dumps(measure(case)))
        return
    text = "\n".join(page(settings, shlex.join(["python", "-m", "benchmarks.fused_loss", *argv]))) + "\n"
    print(text, end="")
    if settings.save:
        settings.save.write_text(text)


if __name__ == "__main__":
    main()
