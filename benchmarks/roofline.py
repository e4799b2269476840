"""Prints the predicted training step of the paper's two teachers, phase by phase, as markdown tables.

    python -m benchmarks.roofline [--response-mean 1200 ...] [--save FILE]

Nothing is measured and no GPU is used: configs and data sheets go in (verl_vaopd/costs/).
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from verl_vaopd.costs.assumptions import NOTES, ONE_VIEW, STANDARD_OPD, VA_OPD, Assumptions
from verl_vaopd.costs.devices import DEVICES
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.step import Step
from verl_vaopd.costs.workload import Workload

# Section 4.5, Figure 5: Standard OPD, 8B to 2B on Geometry3K, 8 x A100, ends after 19.3 h. 5 epochs of about 2,100
# problems in batches of 16 are about 656 steps.
PAPER_STEPS = 656
PAPER_SECONDS = 19.3 * 3600 / PAPER_STEPS
PAPER_RUN = ("8B", "a100-80g", STANDARD_OPD)
PAPER_BATCH = (16, 4, 8)  # prompts, rollouts, GPUs

RUNS = [
    (teacher, gpu, method)
    for teacher in ("8B", "32B")
    for gpu in ("a100-80g", "h100-80g")
    for method in (VA_OPD, ONE_VIEW, STANDARD_OPD)
]


def plan(teacher: str, gpu: str, method, workload: Workload, gpus: int) -> Step:
    shapes = {size: ModelShape.of(QWEN3_VL_INSTRUCT[size]) for size in (teacher, "2B")}
    return Step(shapes[teacher], shapes["2B"], workload, method, DEVICES[gpu], gpus)


def comparable(step: Step) -> bool:
    """Whether batch and GPUs are those of the paper."""
    return (step.workload.prompts, step.workload.rollouts, step.gpus) == PAPER_BATCH


def title(teacher: str, step: Step) -> str:
    return f"{teacher} to 2B, {step.gpus} x {step.device.name}"


def memory(phase, step: Step) -> str:
    """Peak of a phase in GB, marked where it exceeds the device."""
    over = " (does not fit)" if phase.peak_memory > step.device.memory else ""
    return f"{phase.peak_memory / 1e9:.1f}{over}"


def summary(steps: dict) -> Iterator[str]:
    """One row per run."""
    yield (
        f"| run | method | step, s | generation, s | teacher, s | student, s | {PAPER_STEPS} steps, h | "
        "memory generating, GB | memory otherwise, GB | paper's step, s |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for run, step in steps.items():
        phases = step.phases()
        seconds = {phase.name: phase.seconds(step.device, step.assumptions) for phase in phases}
        generation = [phase for phase in phases if phase.name.startswith("generation")]
        training = max((phase for phase in phases if phase not in generation), key=lambda phase: phase.peak_memory)
        cells = [
            title(run[0], step),
            step.implementation.name,
            f"{step.seconds:.1f}",
            f"{sum(seconds[phase.name] for phase in generation):.1f}",
            f"{seconds['teacher']:.2f}",
            f"{seconds['student']:.2f}",
            f"{step.seconds * PAPER_STEPS / 3600:.1f}",
            memory(generation[0], step),
            f"{memory(training, step)} ({training.name})",
            f"{PAPER_SECONDS:.0f}" if run == PAPER_RUN and comparable(step) else "",
        ]
        yield f"| {' | '.join(cells)} |"


def details(step: Step) -> Iterator[str]:
    """One row per phase, quantities of one GPU."""
    yield "| phase | TFLOP | HBM, GB | NVLink, GB | host, GB | memory, GB | its largest part | seconds | bound by |"
    yield "|---|--:|--:|--:|--:|--:|---|--:|---|"
    for phase in step.phases():
        seconds = phase.seconds(step.device, step.assumptions)
        cells = [
            phase.name,
            f"{phase.flops / 1e12:.1f}",
            f"{phase.hbm / 1e9:.1f}",
            f"{phase.nvlink / 1e9:.1f}",
            f"{phase.host / 1e9:.1f}",
            memory(phase, step),
            phase.largest_part,
            f"{seconds:.3f}",
            phase.bound(step.device, step.assumptions) if seconds else "",
        ]
        yield f"| {' | '.join(cells)} |"


def against_the_paper(step: Step) -> str:
    """What the prediction leaves of the paper's figure, and what it would be as time per decoding step."""
    rest = PAPER_SECONDS - step.seconds
    each = rest / step.workload.response_longest
    return (
        f"The paper's own figure, Standard OPD of 8B to 2B on 8 x A100: 19.3 h for {PAPER_STEPS} steps, "
        f"{PAPER_SECONDS:.0f} s a step. Predicted here: {step.seconds:.1f} s. The difference of {rest:.0f} s is not "
        f"explained by this page; spread over {step.workload.response_longest} decoding steps it would be "
        f"{1000 * each:.0f} ms each."
    )


def report(workload: Workload, gpus: int) -> Iterator[str]:
    """Lines of the whole page."""
    steps = {run: plan(*run, workload, gpus) for run in RUNS}
    yield "# Predicted training step"
    yield ""
    yield (
        f"A prediction, nothing here is measured. {workload.prompts} prompts x {workload.rollouts} rollouts, prompts "
        f"of {workload.prompt_tokens} tokens ({workload.image_tokens} of them image), responses of "
        f"{workload.response_mean:g} tokens on average and {workload.response_longest} at most; {gpus} GPUs."
    )
    yield ""
    yield (
        f"Every step here waits for an answer of {workload.response_longest} tokens. Where lengths are drawn, the "
        "longest of a step is often shorter, and so is the step: [partial_rollouts.md](partial_rollouts.md) has such "
        "steps, in `sync` and with partial rollouts."
    )
    yield ""
    yield from summary(steps)
    if comparable(steps[PAPER_RUN]):
        yield ""
        yield against_the_paper(steps[PAPER_RUN])
    for (teacher, *_), step in steps.items():
        yield ""
        yield f"## {title(teacher, step)}: {step.implementation.name}"
        yield ""
        yield "Per GPU."
        yield ""
        yield from details(step)
    yield ""
    yield "## Assumptions"
    yield ""
    yield from (f"- {note}" for note in NOTES)
    yield from (f"- {field.metadata['text']}: {field.default:g}" for field in fields(Assumptions) if field.default)
    yield from (f"- {device.name}: {device.source}" for device in DEVICES.values())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Predicted training step, as markdown tables.")
    default = Workload()
    parser.add_argument("--prompt-tokens", type=int, default=default.prompt_tokens, help="with image tokens")
    parser.add_argument("--image-share", type=float, default=default.image_share, help="of the prompt's tokens")
    parser.add_argument("--response-mean", type=float, default=default.response_mean, help="tokens")
    parser.add_argument("--response-longest", type=int, default=default.response_longest, help="tokens")
    parser.add_argument("--prompts", type=int, default=default.prompts, help="per step")
    parser.add_argument("--rollouts", type=int, default=default.rollouts, help="per prompt (K)")
    parser.add_argument("--gpus", type=int, default=8, help="of one node")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the page there as well")
    settings = vars(parser.parse_args(argv))
    gpus, save = settings.pop("gpus"), settings.pop("save")
    try:
        page = "\n".join(report(Workload(**settings), gpus)) + "\n"
    except ValueError as error:
        parser.error(str(error))
    print(page, end="")
    if save:
        save.write_text(page)


if __name__ == "__main__":
    main()
