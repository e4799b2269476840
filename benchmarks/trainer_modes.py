"""Seconds a step on the real stack: every step waiting for its longest answer, against partial rollouts.

    python -m benchmarks.trainer_modes --tiny FOLDER [--steps N] [--save FILE]

FOLDER is what `verl-vaopd tiny` made. Runs differ in ``trainer.v1.trainer_mode``, in how many batches of prompts are
ahead (``num_warmup_batches``) and in the bound on a prompt's steps (``max_off_policy_threshold``). Validations and
saves are left out; the steps that fill and drain the queue are not counted. Beside the page a picture, FILE with .png.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import ROOT, markdown_table, publish

PHASES = {
    "gen": "sampling",
    "teacher": "teacher",
    "coefficients": "weighing",
    "student": "student",
    "update_weights": "weights to vLLM",
}
SYNC = "sync"


def mode(ahead: float, bound: int) -> list[str]:
    return [
        "trainer.v1.trainer_mode=colocate_async",
        f"trainer.v1.colocate_async.num_warmup_batches={ahead}",
        f"trainer.v1.sampler.max_off_policy_threshold={bound}",
    ]


MODES = {
    SYNC: [],
    **{f"{ahead} ahead, bound {bound}": mode(ahead, bound) for ahead, bound in ((1, 1), (1, 2), (1, 4), (2, 4))},
}


def run(folder: Path, name: str, overrides: list[str], args) -> list[dict]:
    """Train. Returns the records of the steps that count."""
    output, tiny = folder / name.replace(" ", "_").replace(",", ""), args.tiny
    command = [
        *[sys.executable, "-m", "verl_vaopd.cli", "train", "--config-name", "tiny_cpu"],
        f"actor_rollout_ref.model.path={tiny}/student",
        f"vaopd.teacher.path={tiny}/teacher",
        f"data.train_files={tiny}/data/train.parquet",
        f"data.val_files={tiny}/data/validation.parquet",
        f"vaopd.output_dir={output}",
        f"trainer.total_training_steps={args.steps}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        f"vaopd.method={args.method}",
        *args.overrides,
        *overrides,
    ]
    print(f"{name}: {args.steps} steps", file=sys.stderr, flush=True)
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout[-3000:]}\n{name} ended with {result.returncode}")
    with open(output / "metrics.jsonl") as f:
        steps = [json.loads(line) for line in f if '"loss"' in line]
    return steps[args.left_out : -args.left_out]


def means(steps: list[dict]) -> dict[str, float]:
    """Over the steps: their time would say little by its median, since what one step leaves the next one finds.

    ``tokens_per_s`` is all tokens over all seconds: the mean of the steps' own is more where steps are uneven.
    """
    names = ["time/step", *(f"time/{name}" for name in PHASES), "response_length/mean"]
    more = [name for name in ("staleness/mean", "staleness/tokens") if name in steps[0]]
    found = {name: statistics.mean(step[name] for step in steps) for name in [*names, *more]}
    tokens = sum(step["tokens_per_s"] * step["time/step"] for step in steps)
    return found | {"tokens_per_s": tokens / sum(step["time/step"] for step in steps)}


def draw(results: dict[str, dict[str, float]], path: Path) -> None:
    """Where a step's time goes, a bar a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 * len(results) + 1.2), layout="constrained")
    axis, left = figure.subplots(), [0.0] * len(results)
    for name, label in PHASES.items():
        width = [found[f"time/{name}"] for found in results.values()]
        axis.barh(list(results), width, left=left, label=label)
        left = [start + more for start, more in zip(left, width, strict=True)]
    rest = [found["time/step"] - start for found, start in zip(results.values(), left, strict=True)]
    axis.barh(list(results), rest, left=left, label="rest", color="0.8")
    axis.invert_yaxis()
    axis.set_xlabel("seconds a step, mean")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=Path, required=True, help="models and data, as `verl-vaopd tiny` makes them")
    parser.add_argument("--steps", type=int, default=30, help="of each run")
    parser.add_argument("--left-out", type=int, default=5, help="steps at the start and at the end that do not count")
    parser.add_argument("--method", default="vaopd")
    parser.add_argument("--save", type=Path, help="write the page to this file, and the picture beside it")
    parser.add_argument("overrides", nargs="*", help="settings of all runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        steps = {name: run(Path(folder), name, overrides, args) for name, overrides in MODES.items()}
    results = {name: means(found) for name, found in steps.items()}
    sync = results[SYNC]["time/step"]
    titles = ["run", "s a step", "of sync", *(f"{label}, s" for label in PHASES.values())]
    titles += [
        "tokens a s",
        "tokens an answer",
        "oldest token, updates",
        "largest",
        "tokens not of the current weights",
    ]
    rows = []
    for name, found in results.items():
        largest = max(step.get("staleness/max", 0) for step in steps[name])
        rows.append(
            [
                name,
                f"{found['time/step']:.2f}",
                f"{found['time/step'] / sync:.2f}",
                *(f"{found[f'time/{phase}']:.2f}" for phase in PHASES),
                f"{found['tokens_per_s']:.0f}",
                f"{found['response_length/mean']:.0f}",
                f"{found.get('staleness/mean', 0):.2f}",
                f"{largest:.0f}",
                f"{found.get('staleness/tokens', 0):.0%}",
            ]
        )
    publish("A step that waits, and one that does not", args, [markdown_table(titles, rows)])
    if args.save:
        draw(results, args.save.with_suffix(".png"))


if __name__ == "__main__":
    main()
