"""``verl-vaopd plan``: whether a recipe fits the GPUs, how long it takes, what it writes."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from verl_vaopd.costs.devices import DEVICES
from verl_vaopd.costs.heads import check_heads
from verl_vaopd.planning import memory
from verl_vaopd.planning.course import CHECKPOINT_WRITE, Course, course_of
from verl_vaopd.planning.lengths import TAIL, Draw, LogNormal, Measured, measured
from verl_vaopd.planning.memory import PhaseMemory, Settings
from verl_vaopd.planning.recipe import composed, mode_of, settings
from verl_vaopd.planning.waiting import Forecast, Mode

MENDS = {
    "generation": "lower actor_rollout_ref.rollout.gpu_memory_utilization (to {share:.2f}), or offload: "
    "vaopd.teacher.param_offload=true, actor_rollout_ref.actor.fsdp_config.optimizer_offload=true",
    "teacher": "lower vaopd.teacher.max_token_len_per_gpu, or place the teacher on GPUs of its own "
    "(vaopd.teacher.placement=separate)",
    "student": "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, switch on "
    "actor_rollout_ref.model.enable_gradient_checkpointing, or raise ulysses_sequence_parallel_size",
    "fine-tuning": "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, or switch on "
    "actor_rollout_ref.model.enable_gradient_checkpointing",
    "optimiser": "vaopd.teacher.param_offload=true",
    "weights to vLLM": "lower actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verl-vaopd plan",
        description="Print memory per phase and GPU, step time, run time and disk of a recipe; refuse what cannot fit.",
        epilog="Exit code 0: it fits; 1: it does not; 2: it cannot be planned, or train would refuse it. Memory is the "
        "most that the settings allow, seconds are the prediction of a roofline: docs/planning.md tells what is "
        "assumed.",
    )
    parser.add_argument("recipe", help="a recipe's path or name, such as vaopd_8b_2b_geo3k")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="hydra overrides, as for the recipe")
    parser.add_argument("--gpu", choices=sorted(DEVICES), default="a100-80g", help="default: %(default)s")
    parser.add_argument("--gpus", type=int, help="in all; default: what the recipe asks for")
    parser.add_argument("--prompt-tokens", type=int, default=360, help="of a usual prompt; default: %(default)s")
    parser.add_argument("--response-mean", type=float, default=1200, help="tokens; default: %(default)s")
    parser.add_argument(
        "--response-p99",
        type=float,
        help="tokens that one answer of a hundred is above, of a log-normal; default: the longest allowed, at most "
        f"{TAIL:.3g} times the mean",
    )
    parser.add_argument(
        "--lengths", metavar="FILE", help="measured instead: a JSON list of lengths, or of one list a prompt; or a run"
    )
    parser.add_argument(
        "--trainer-mode", choices=("sync", "colocate_async"), help="default: the recipe's trainer.v1.trainer_mode"
    )
    parser.add_argument(
        "--network-gbit", type=float, default=200, help="Gbit/s of each GPU between nodes; default: %(default)s"
    )
    return parser.parse_intermixed_args(argv)


def node_environment(gpus: int | None) -> dict[str, str]:
    """The recipe's variables for so many GPUs in all.

    Raises:
        ValueError: they do not spread evenly over ``NNODES``.
    """
    if gpus is None:
        return {}
    nodes = int(os.environ.get("NNODES", 1))
    if gpus < 1 or gpus % nodes:
        raise ValueError(f"--gpus {gpus}: must be a multiple of NNODES={nodes}")
    return {"N_GPUS_PER_NODE": str(gpus // nodes)}


def misfits(phases: list[PhaseMemory], settings: Settings, capacity: float) -> Iterator[str]:
    """What does not fit, and what would mend it."""
    for phase in phases:
        over = phase.total - capacity
        if over > 0:
            parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in phase.largest(3))
            mend = MENDS[phase.name].format(share=math.floor(100 * (settings.vllm_share - over / capacity)) / 100)
            yield f"{phase.name} needs {phase.total / 1e9:.1f} of {capacity / 1e9:.0f} GB ({parts}): {mend}"


def memory_table(phases: list[PhaseMemory], seconds: dict[str, float], capacity: float) -> Iterator[str]:
    """Lines; ``seconds``: of the phases that a step has."""
    names = {
        "generation": ("generation: prefill", "generation: decode"),
        "fine-tuning": ("student",),
        "weights to vLLM": ("weight sync",),
    }
    yield f"  {'phase':<16} {'GB a GPU':>8} {'seconds':>8}   largest parts, GB"
    for phase in phases:
        taken = [seconds[name] for name in names.get(phase.name, (phase.name,)) if name in seconds]
        shown = f"{sum(taken):.2f}" if taken else "-"
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in phase.largest(4))
        mark = "!" if phase.total > capacity else " "
        yield f" {mark}{phase.name:<16} {phase.total / 1e9:>8.1f} {shown:>8}   {parts}"


def hours(seconds: float) -> str:
    """Such as ``4.7 h`` or ``12 min``."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def waiting_facts(waiting: Forecast, mode: Mode, draw: Draw) -> Iterator[tuple[str, str]]:
    """How a step waits for its rollouts."""
    yield "answers", str(draw)
    yield (
        "trainer mode",
        f"{mode}: generation {waiting.seconds:.1f} s, {waiting.batch:.0f} sequences a replica at first",
    )
    if mode.ahead:
        yield (
            "staleness",
            f"{waiting.staleness:.1f} updates on average, {waiting.oldest} at most; earlier weights wrote "
            f"{waiting.stale_share:.0%} of the tokens; a step prefills {waiting.again:,.0f} tokens again",
        )


def run_facts(
    each: Settings, course: Course, lengths: dict[str, float], mode: Mode, draw: Draw
) -> Iterator[tuple[str, str]]:
    """How long the run takes, what it writes."""
    needs = each.needs
    if needs.trains and not needs.samples:
        answers = course.rows * each.rollouts
        yield "before it", f"verl-vaopd answers: {answers:,} answers of the teacher, in no figure here"
    if needs.trains:
        yield (
            "step",
            f"{course.step:.1f} s: {each.prompts} prompts x {each.rollouts} "
            f"{'rollouts' if needs.samples else 'answers'} of {lengths['response_mean']:.0f} tokens on average, "
            f"{each.response_limit:,} at most",
        )
    if course.waiting:
        yield from waiting_facts(course.waiting, mode, draw)
    parts = []
    if needs.trains:
        parts.append(f"{course.steps:,} steps {hours(course.steps * course.step)}")
    parts.append(
        f"{course.validations} validation{'s' * (course.validations > 1)} of {course.problems} problems "
        f"{hours(course.validations * course.validation)}"
    )
    if course.saves:
        parts.append(f"{course.saves} checkpoints {hours(course.writing)} at {CHECKPOINT_WRITE / 1e9:.0f} GB/s")
    yield "run", f"{hours(course.total)}: {', '.join(parts)}"
    if course.saves:
        yield (
            "disk",
            f"{course.disk / 1e9:.0f} GB: {course.kept} checkpoints of {course.checkpoint / 1e9:.0f} GB, one more "
            "while it is written, the exported student",
        )


def answers_of(args: argparse.Namespace, limit: int) -> LogNormal | Measured:
    """How long answers are.

    Raises:
        ValueError: lengths that no answers have.
    """
    if args.lengths:
        return measured(args.lengths, limit)
    mean = min(args.response_mean, limit)
    p99 = min(limit, TAIL * mean) if args.response_p99 is None else args.response_p99
    return LogNormal(mean, p99, limit)


def plan(args: argparse.Namespace, check: Callable) -> tuple[list[str], list[str]]:
    """Lines to print, and what does not fit.

    Raises:
        ValueError: ``check`` refuses the recipe's config, or it cannot be planned.
    """
    asked_mode = [f"trainer.v1.trainer_mode={args.trainer_mode}"] if args.trainer_mode else []
    config = composed(args.recipe, [*args.overrides, *asked_mode], **node_environment(args.gpus))
    check(config)
    each, device, trainer = settings(config), DEVICES[args.gpu], config.trainer
    check_heads(each.student.text, each.tensor_parallel)
    phases, mode = memory.phases(each, device.memory), mode_of(config)
    draw = answers_of(args, each.response_limit)
    lengths = {
        "prompt_tokens": min(args.prompt_tokens, each.prompt_limit),
        "response_mean": min(draw.mean, each.response_limit),
        "response_longest": draw.longest,
    }
    course = course_of(config, each, device, lengths, draw, args.network_gbit / 8 * 1e9)
    sequences = memory.vllm_parts(each, device.memory)["vLLM keys and values"] / memory.sequence_bytes(each)
    replicas = each.gpus // each.tensor_parallel
    asked = [f"a validation {math.ceil(course.problems * course.samples / replicas)}"]
    if each.needs.samples:
        asked.insert(0, f"a step has {math.ceil((1 + mode.ahead) * each.prompts * each.rollouts / replicas)}")
    largest = max(phases, key=lambda phase: phase.total)
    loaded = f"{each.student.total / 1e9:.1f} B parameters"
    if each.needs.teacher_views:
        loaded = f"{each.teacher.total / 1e9:.1f} B to {loaded}"
    own_pool = each.needs.teacher_views and not each.colocated
    pool = f", and {each.teacher_gpus} of the teacher's own" if own_pool else ""
    offloaded = memory.host_bytes(each, trainer.n_gpus_per_node)
    facts = {
        "largest phase": f"{largest.name}, {largest.total / 1e9:.1f} of {device.memory / 1e9:.0f} GB",
        "vLLM": f"{sequences:.0f} sequences of {each.prompt_limit + each.response_limit:,} tokens at once on a "
        f"replica; {', '.join(asked)}",
        "host memory": f"{offloaded / 1e9:.0f} GB a node offloaded, beside Ray's object store and the loaders",
        **dict(run_facts(each, course, lengths, mode, draw)),
    }
    lines = [
        f"{trainer.experiment_name}: {loaded}, {each.gpus} x {device.name} on {trainer.nnodes} "
        f"node{'s' * (trainer.nnodes > 1)}{pool}",
        "",
        *memory_table(phases, course.seconds, device.memory),
        "",
        *(f"  {name:<18} {text}" for name, text in facts.items()),
    ]
    return lines, list(misfits(phases, each, device.memory))


def run(argv: Sequence[str] | None, check: Callable) -> int:
    """Plan what ``argv`` asks for, unless ``check`` raises a ValueError over its config.

    Exit code 0: it fits; 1: it does not; 2: it cannot be planned, or a run would be refused.
    """
    args = parse(argv)
    try:
        lines, wrong = plan(args, check)
    except ValueError as error:
        print(f"verl-vaopd plan: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    if wrong:
        print("\n" + "\n".join(f"does not fit: {each}" for each in wrong), file=sys.stderr)
        return 1
    print("\nIt fits. Memory is the most that is counted; seconds are predicted, not measured (docs/planning.md).")
    return 0
