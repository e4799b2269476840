"""``verl-vaopd plan``: whether a recipe fits the GPUs, how long it takes, what it writes."""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence

from verl_vaopd.costs.devices import DEVICES
from verl_vaopd.planning import memory
from verl_vaopd.planning.checkpoints import checkpoint_bytes, kept_at_most
from verl_vaopd.planning.memory import PhaseMemory, Settings

CHECKPOINT_WRITE = 1e9
"""Assumed bytes/s at which a checkpoint is written."""
MENDS = {
    "generation": "lower actor_rollout_ref.rollout.gpu_memory_utilization (to {share:.2f}), or offload: "
    "vaopd.teacher.param_offload=true, actor_rollout_ref.actor.fsdp_config.optimizer_offload=true",
    "teacher": "lower vaopd.teacher.max_token_len_per_gpu, or place the teacher on GPUs of its own "
    "(vaopd.teacher.placement=separate)",
    "student": "lower actor_rollout_ref.actor.ppo_max_token_len_per_gpu, switch on "
    "actor_rollout_ref.model.enable_gradient_checkpointing, or raise ulysses_sequence_parallel_size",
    "optimiser": "vaopd.teacher.param_offload=true",
    "weights to vLLM": "lower actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="verl-vaopd plan",
        description="Print memory per phase and GPU, step time, run time and disk of a recipe; refuse what cannot fit.",
        epilog="Exit code 0: it fits; 1: it does not; 2: it cannot be planned. Memory is an upper bound of what is "
        "counted, seconds are the prediction of a roofline: docs/planning.md tells what is assumed.",
    )
    parser.add_argument("recipe", help="a recipe's path or name, such as vaopd_8b_2b_geo3k")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="hydra overrides, as for the recipe")
    parser.add_argument("--gpu", choices=sorted(DEVICES), default="a100-80g", help="default: %(default)s")
    parser.add_argument("--gpus", type=int, help="in all; default: what the recipe asks for")
    parser.add_argument("--prompt-tokens", type=int, default=360, help="of a usual prompt; default: %(default)s")
    parser.add_argument("--response-mean", type=float, default=1200, help="tokens; default: %(default)s")
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
    groups = {"generation": ["generation: prefill", "generation: decode"], "weights to vLLM": ["weight sync"]}
    yield f"  {'phase':<16} {'GB a GPU':>8} {'seconds':>8}   largest parts, GB"
    for phase in phases:
        taken = sum(seconds[name] for name in groups.get(phase.name, [phase.name]))
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in phase.largest(4))
        mark = "!" if phase.total > capacity else " "
        yield f" {mark}{phase.name:<16} {phase.total / 1e9:>8.1f} {taken:>8.2f}   {parts}"


def hours(seconds: float) -> str:
    """Such as ``4.7 h`` or ``12 min``."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def plan(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Lines to print, and what does not fit.

    Raises:
        ValueError: the recipe cannot be planned.
    """
    from verl_vaopd.costs.workload import Workload
    from verl_vaopd.planning.recipe import composed, settings, training_rows, usual_step
    from verl_vaopd.settings.compose import planned_steps

    config = composed(args.recipe, args.overrides, **node_environment(args.gpus))
    each, device = settings(config), DEVICES[args.gpu]
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    phases = memory.phases(each, device.memory)

    lengths = {
        "prompt_tokens": min(args.prompt_tokens, each.prompt_limit),
        "response_mean": min(args.response_mean, each.response_limit),
        "response_longest": each.response_limit,
    }
    network = args.network_gbit / 8 * 1e9
    seconds = usual_step(
        each, device, Workload(prompts=each.prompts, rollouts=each.rollouts, **lengths), trainer.nnodes, network
    )
    step = sum(seconds.values())
    steps = planned_steps(config, training_rows(config))
    checkpoint = checkpoint_bytes(each.student)
    saves = 0 if trainer.save_freq < 1 else math.ceil(steps / trainer.save_freq)
    checks = (0 if trainer.test_freq < 1 else math.ceil(steps / trainer.test_freq)) + bool(trainer.val_before_train)
    problems = config.data.val_max_samples if config.data.val_max_samples > 0 else 200
    held_out = Workload(prompts=problems, rollouts=rollout.val_kwargs.n, **lengths)
    validation = usual_step(each, device, held_out, trainer.nnodes, network)
    validation = sum(time for name, time in validation.items() if name.startswith(("generation", "teacher")))
    total = steps * step + checks * validation + saves * checkpoint / CHECKPOINT_WRITE

    kept = kept_at_most(saves, trainer.max_actor_ckpt_to_keep)
    disk = (kept + 1) * checkpoint + 4 * each.student.total
    sequences = memory.vllm_parts(each, device.memory)["vLLM keys and values"] / memory.sequence_bytes(each)
    replicas = each.gpus // each.tensor_parallel
    largest = max(phases, key=lambda phase: phase.total)
    pool = "" if each.colocated else f", and {each.teacher_gpus} of the teacher's own"
    sequence_limit = each.prompt_limit + each.response_limit
    offloaded = memory.host_bytes(each, trainer.n_gpus_per_node)
    facts = {
        "largest phase": f"{largest.name}, {largest.total / 1e9:.1f} of {device.memory / 1e9:.0f} GB",
        "vLLM": f"{sequences:.0f} sequences of {sequence_limit:,} tokens at once on a replica; "
        f"a step has {math.ceil(each.prompts * each.rollouts / replicas)}, "
        f"a validation {math.ceil(problems * held_out.rollouts / replicas)}",
        "host memory": f"{offloaded / 1e9:.0f} GB a node offloaded, beside Ray's object store and the loaders",
        "step": f"{step:.1f} s: {each.prompts} prompts x {each.rollouts} rollouts of {lengths['response_mean']:.0f} "
        f"tokens on average, the longest {each.response_limit:,}",
        "run": f"{hours(total)}: {steps:,} steps {hours(steps * step)}, {checks} validations of {problems} problems "
        f"{hours(checks * validation)}, {saves} checkpoints {hours(saves * checkpoint / CHECKPOINT_WRITE)} at "
        f"{CHECKPOINT_WRITE / 1e9:.0f} GB/s",
        "disk": f"{disk / 1e9:.0f} GB: {kept} checkpoints of {checkpoint / 1e9:.0f} GB, one more while it "
        "is written, the exported student",
    }
    lines = [
        f"{trainer.experiment_name}: {each.teacher.total / 1e9:.1f} B to {each.student.total / 1e9:.1f} B parameters, "
        f"{each.gpus} x {device.name} on {trainer.nnodes} node{'s' * (trainer.nnodes > 1)}{pool}",
        "",
        *memory_table(phases, seconds, device.memory),
        "",
        *(f"  {name:<18} {text}" for name, text in facts.items()),
    ]
    return lines, list(misfits(phases, each, device.memory))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: it fits; 1: it does not; 2: it cannot be planned."""
    args = parse(argv)
    try:
        lines, wrong = plan(args)
    except ValueError as error:
        print(f"verl-vaopd plan: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    if wrong:
        print("\n" + "\n".join(f"does not fit: {each}" for each in wrong), file=sys.stderr)
        return 1
    print("\nIt fits. Memory is the most that is counted; seconds are predicted, not measured (docs/planning.md).")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
