"""Predicted step of 8B and 32B to 2B on 8 GPUs: every answer awaited, or partial rollouts. A page and a picture.

    python -m benchmarks.partial_rollouts [--response-mean 1200 ...] [--save FILE]

Nothing is measured and no GPU is used: a seeded simulation (verl_vaopd/planning/waiting.py) on the roofline of costs/.
Beside FILE go its picture (.png) and, if it is there, what is read of the perimeter task (perimeter_lengths.json).
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from verl_vaopd.costs.assumptions import VA_OPD, Assumptions
from verl_vaopd.costs.devices import DEVICES
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.step import Step
from verl_vaopd.costs.workload import Workload
from verl_vaopd.planning.lengths import ALIKE, Draw, LogNormal, measured
from verl_vaopd.planning.replica import Replica
from verl_vaopd.planning.waiting import COUNTED, Forecast, Mode, Simulation, forecast

SHAPES = {size: ModelShape.of(QWEN3_VL_INSTRUCT[size]) for size in ("2B", "8B", "32B")}
TEACHERS, GPUS = ("8B", "32B"), ("a100-80g", "h100-80g")
WARMUPS, BOUNDS = (1, 2, 4), (1, 2, 4, None)
MODES = (
    Mode(),
    *(Mode(warmup, bound) for warmup in WARMUPS for bound in BOUNDS),
    *(Mode(warmup, bound, drop=True) for warmup in (1, 2) for bound in (2, 4)),
)
CHOSEN = Mode(2, 4)
LENGTHS = Path(__file__).parent / "results" / "perimeter_lengths.json"


@dataclass(frozen=True)
class Case:
    """What is simulated: ``workload`` on ``gpus`` replicas of a device."""

    workload: Workload
    draw: Draw
    gpu: str
    gpus: int = 8
    assumptions: Assumptions = Assumptions()

    def forecast(self, mode: Mode) -> Forecast:
        load, device = self.workload, DEVICES[self.gpu]
        replica = Replica(SHAPES["2B"], device, self.assumptions, load.prompt_tokens, load.image_tokens)
        generator = np.random.default_rng(0)
        return forecast(Simulation(replica, self.gpus, load.prompts, load.rollouts, self.draw, mode, generator))

    def rest(self, teacher: str) -> dict[str, float]:
        """Seconds of the other phases, which do not hang on the mode: teacher, and all others."""
        step = Step(SHAPES[teacher], SHAPES["2B"], self.workload, VA_OPD, DEVICES[self.gpu], self.gpus)
        seconds = {phase.name: phase.seconds(step.device, step.assumptions) for phase in step.phases()}
        scoring = seconds.pop("teacher")
        return {
            "teacher": scoring,
            "student": sum(each for name, each in seconds.items() if not name.startswith("generation")),
        }


def table(case: Case, told: dict[Mode, Forecast]) -> Iterator[str]:
    """One row per mode."""
    steps = " | ".join(f"step, {teacher} to 2B, s" for teacher in TEACHERS)
    yield (
        f"| mode | generation, s | {steps} | staleness, mean | largest | tokens of earlier weights | prefilled again | "
        "thrown away | sequences a replica |"
    )
    yield f"|---|{'--:|' * (len(TEACHERS) + 7)}"
    for mode, each in told.items():
        seconds = " | ".join(f"{each.seconds + sum(case.rest(teacher).values()):.1f}" for teacher in TEACHERS)
        yield (
            f"| {mode} | {each.seconds:.1f} | {seconds} | {each.staleness:.2f} | {each.oldest} | "
            f"{each.stale_share:.0%} | {each.again:,.0f} | {each.thrown:,.0f} | {each.batch:.1f} |"
        )


def varied(case: Case) -> Iterator[str]:
    """Sync against the chosen mode where an assumption is another."""
    load, draw = case.workload, case.draw
    shorter = load.response_mean * 2 / 3
    cases = {
        f"as above: siblings alike by {draw.alike:g}": case,
        "siblings not alike (0)": replace(case, draw=replace(draw, alike=0.0)),
        "siblings of one length (1)": replace(case, draw=replace(draw, alike=1.0)),
        f"99th percentile {draw.p99 * 2 / 3:.0f}": replace(case, draw=replace(draw, p99=draw.p99 * 2 / 3)),
        f"mean {shorter:.0f}": replace(
            case, workload=replace(load, response_mean=shorter), draw=replace(draw, mean=shorter)
        ),
        "10 ms of latency a decoding step, not 3": replace(case, assumptions=Assumptions(decode_latency=0.010)),
        "32 prompts a step": replace(case, workload=replace(load, prompts=2 * load.prompts)),
    }
    yield f"| assumption | sync, s | {CHOSEN}, s | ratio | staleness, mean |"
    yield "|---|--:|--:|--:|--:|"
    for name, each in cases.items():
        rest = sum(each.rest("8B").values())
        sync, partial = each.forecast(Mode()), each.forecast(CHOSEN)
        one, other = sync.seconds + rest, partial.seconds + rest
        yield f"| {name} | {one:.1f} | {other:.1f} | {other / one:.2f} | {partial.staleness:.2f} |"


def perimeter(path: Path) -> Iterator[str]:
    """The tiny task's lengths on one replica, in decoding steps."""
    lengths = measured(path)
    free = replace(DEVICES["a100-80g"], bf16_flops=1e30, hbm=1e30)
    replica = Replica(SHAPES["2B"], free, Assumptions(decode_latency=1.0), prompt_tokens=60, image_tokens=36)
    yield f"{lengths}. One replica, 16 prompts x 4 rollouts."
    yield ""
    yield "| mode | decoding steps of a step | of sync | staleness, mean | largest | sequences at first |"
    yield "|---|--:|--:|--:|--:|--:|"
    sync = None
    for mode in MODES:
        each = forecast(Simulation(replica, 1, 16, 4, lengths, mode, np.random.default_rng(0)))
        sync = sync or each.seconds
        yield (
            f"| {mode} | {each.seconds:.0f} | {each.seconds / sync:.2f} | {each.staleness:.2f} | {each.oldest} | "
            f"{each.batch:.0f} |"
        )


def draw_picture(cases: dict[str, Case], told: dict[str, dict[Mode, Forecast]], path: Path) -> None:
    """Stacked bars of a step of 8B to 2B, a panel per device."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    modes = [Mode(), *(Mode(warmup, bound) for bound in (2, 4, None) for warmup in WARMUPS)]
    for axis, (gpu, case) in zip(figure.subplots(1, len(cases), sharey=True), cases.items(), strict=True):
        left, rest = np.zeros(len(modes)), case.rest("8B")
        parts = {
            "generation": [told[gpu][mode].seconds for mode in modes],
            **{name: [seconds] * len(modes) for name, seconds in rest.items()},
        }
        for (name, widths), colour in zip(parts.items(), ("tab:blue", "tab:orange", "tab:green"), strict=True):
            axis.barh(range(len(modes)), widths, left=left, label=name, color=colour)
            left = left + np.array(widths)
        for place, total in enumerate(left):
            axis.text(total, place, f" {total:.1f}", va="center", fontsize=8)
        axis.set_yticks(range(len(modes)), [str(mode).removeprefix("colocate_async, ") for mode in modes], fontsize=8)
        axis.set_title(f"8B to 2B, {case.gpus} x {DEVICES[gpu].name}", fontsize=10)
        axis.set_xlabel("predicted seconds of a step")
        axis.margins(x=0.12)
    figure.axes[0].invert_yaxis()
    figure.axes[0].legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)


def report(cases: dict[str, Case], told: dict[str, dict[Mode, Forecast]], picture: str | None) -> Iterator[str]:
    """Lines of the whole page."""
    case = cases[GPUS[0]]
    load = case.workload
    yield "# Predicted step: every answer awaited, or partial rollouts"
    yield ""
    yield (
        f"A prediction, nothing here is measured on a GPU. {load.prompts} prompts x {load.rollouts} rollouts, prompts "
        f"of {load.prompt_tokens} tokens, answers {case.draw}, the logarithms of siblings' lengths correlated by "
        f"{case.draw.alike:g}; {case.gpus} GPUs, a replica of vLLM on each; means of {COUNTED} simulated steps, seed 0."
    )
    yield ""
    yield (
        "Staleness: updates of the weights between a token and the step that learns from it. Prefilled again, thrown "
        "away: tokens a step. No bound: `max_off_policy_threshold=null`."
    )
    yield ""
    yield (
        "The step of [roofline.md](roofline.md) is longer than that of `sync`: it always waits for an answer of the "
        "longest length, which here not every batch has. That of `verl-vaopd plan` is shorter where a recipe keeps the "
        "teacher's weights on the GPUs: here they wait in host memory, and the way there and back is part of the step."
    )
    if picture:
        yield ""
        yield f"![Where a step's time goes]({picture})"
    for gpu, each in cases.items():
        yield ""
        yield f"## {each.gpus} x {DEVICES[gpu].name}"
        yield ""
        yield from table(each, told[gpu])
    yield ""
    yield f"## Other assumptions, 8B to 2B on {case.gpus} x {DEVICES[GPUS[0]].name}"
    yield ""
    yield from varied(case)
    if LENGTHS.exists():
        yield ""
        yield "## The perimeter task, in decoding steps"
        yield ""
        yield from perimeter(LENGTHS)
    yield ""
    yield "## Not in it"
    yield ""
    yield from (
        f"- {note}"
        for note in (
            "Aborting, vLLM's waking and sleeping, the poll of the replay buffer, and what `roofline.md` leaves out.",
            "A limit of sequences in vLLM (`max_num_seqs`, its cache): everything in flight decodes at once.",
            "That answers of the step taken first are shorter: teacher and student are given the mean at every step.",
        )
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Predicted step, sync against partial rollouts.")
    parser.add_argument("--response-mean", type=float, default=1200, help="tokens")
    parser.add_argument("--response-p99", type=float, default=4096, help="tokens that one of a hundred is above")
    parser.add_argument("--response-limit", type=int, default=4096, help="tokens")
    parser.add_argument("--alike", type=float, default=ALIKE, help="correlation of siblings' logarithms of lengths")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the page there, its picture beside it")
    args = parser.parse_args(argv)
    try:
        draw = LogNormal(args.response_mean, args.response_p99, args.response_limit, args.alike)
        load = Workload(response_mean=args.response_mean, response_longest=args.response_limit)
    except ValueError as error:
        parser.error(str(error))
    cases = {gpu: Case(load, draw, gpu) for gpu in GPUS}
    told = {gpu: {mode: case.forecast(mode) for mode in MODES} for gpu, case in cases.items()}
    picture = args.save.with_suffix(".png") if args.save else None
    if picture:
        draw_picture(cases, told, picture)
    page = "\n".join(report(cases, told, picture.name if picture else None)) + "\n"
    print(page, end="")
    if args.save:
        args.save.write_text(page)


if __name__ == "__main__":
    main()
