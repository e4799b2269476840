"""One whole step on the real stack, VA-OPD against Standard OPD, phase by phase; and the bytes it moves.

    python -m benchmarks.whole_step [--save FILE]

All runs have the same untrained models, prompts and rollout settings (responses of full length). Standard OPD scores
the original view alone (``vaopd.degraded_view=false``); everything else is this project's code too. In the last run no
rollout shares its prompt or image with another (``benchmarks/unshared.py``), in teacher and student, as is usual
elsewhere. Bytes are what TransferQueue itself reports for each of its messages.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.measure import ROOT, markdown_table, publish

PHASES = {"gen": "generation", "teacher": "teacher", "coefficients": "coefficients", "student": "student"}
STANDARD = ["vaopd.method=opd", "vaopd.degraded_view=false"]
METHODS = {
    "VA-OPD": ["vaopd.method=vaopd"],
    "Standard OPD": STANDARD,
    "Standard OPD, nothing shared": [*STANDARD, "actor_rollout_ref.model.external_lib=benchmarks.unshared"],
}
MESSAGE = re.compile(r"heavy (put|get) .*?fields=\[(.*?)\].* serialized_mb=([\d.]+)")


def make_models_and_data(folder: Path, args) -> None:
    """A student and a teacher of random weights, and figures enlarged to ``args.image`` pixels a side."""
    import io

    from PIL import Image

    from verl_vaopd.data.synthetic_geometry import make_rows, write_rows
    from verl_vaopd.tiny.models import make_config, make_model, save_model
    from verl_vaopd.tiny.processor import make_processor

    processor = make_processor()
    widths = {
        "student": (args.student_width, args.student_layers),
        "teacher": (args.teacher_width, args.teacher_layers),
    }
    for seed, (name, (hidden, layers)) in enumerate(widths.items()):
        config = make_config(processor.tokenizer, name == "teacher", hidden, vision_hidden=hidden // 2)
        config.text_config.num_hidden_layers = layers
        save_model(make_model(config, seed, std=0.05), processor, folder / name)
    rows = make_rows("train", 16 * args.steps)
    for row in rows:
        image = Image.open(io.BytesIO(row["images"][0]["bytes"])).resize((args.image, args.image))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        row["images"][0]["bytes"] = buffer.getvalue()
    write_rows(rows, folder / "train.parquet")


def run(folder: Path, method: str, args) -> tuple[list[dict], Counter]:
    """Train. Returns the steps' records and (put or get, fields) -> MiB of all messages."""
    output = folder / method.replace(" ", "_").replace(",", "")
    logs = tempfile.mkdtemp(prefix="r", dir="/tmp")  # short: Ray puts Unix sockets into it
    limit = 64 + (args.image // 16) ** 2 + args.response
    command = [
        *[sys.executable, "-m", "verl_vaopd.cli", "train", "--config-name", "tiny_cpu"],
        f"actor_rollout_ref.model.path={folder}/student",
        f"vaopd.teacher.path={folder}/teacher",
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/train.parquet",
        f"vaopd.output_dir={output}",
        f"vaopd.teacher.placement={args.placement}",
        "vaopd.teacher.n_gpus_per_node=1",
        f"vaopd.teacher.max_token_len_per_gpu={4 * limit}",
        f"data.max_prompt_length={limit - args.response}",
        f"data.max_response_length={args.response}",
        f"actor_rollout_ref.rollout.max_model_len={limit}",
        f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={4 * limit}",
        "actor_rollout_ref.rollout.ignore_eos=true",
        f"trainer.total_training_steps={args.steps}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "vaopd.allow_zero_va=true",
        f"+ray_kwargs.ray_init._temp_dir={logs}",
        "+ray_kwargs.ray_init.runtime_env.env_vars.TQ_STORAGE_LARGE_PAYLOAD_MB='-1'",  # report every message
        *METHODS[method],
    ]
    print(f"{method}: {args.steps} steps", file=sys.stderr, flush=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # workers import benchmarks.unshared
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout[-3000:]}\n{method} ended with {result.returncode}")
    moved = Counter()
    for path in Path(logs).glob("session_*/logs/*"):
        if path.is_file() and path.suffix in (".err", ".out"):
            # Each process reports through two handlers: count a line's text once.
            for line in set(path.read_text(errors="replace").splitlines()):
                if (found := MESSAGE.search(line)) and not line.startswith("WARNING"):
                    fields = ", ".join(sorted(found[2].replace("'", "").split(", ")))
                    moved[found[1], fields] += float(found[3])
    shutil.rmtree(logs)
    with open(output / "metrics.jsonl") as f:
        return [json.loads(line) for line in f if '"loss"' in line], moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="per method; the first two are not counted")
    parser.add_argument("--image", type=int, default=256, help="pixels a side; 16 x 16 pixels are a token")
    parser.add_argument("--response", type=int, default=128, help="tokens")
    parser.add_argument("--student-width", type=int, default=128)
    parser.add_argument("--student-layers", type=int, default=4)
    parser.add_argument("--teacher-width", type=int, default=256)
    parser.add_argument("--teacher-layers", type=int, default=8)
    parser.add_argument("--placement", default="colocated", choices=("colocated", "separate"))
    parser.add_argument("--save", help="write the page to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_models_and_data(Path(folder), args)
        results = {method: run(Path(folder), method, args) for method in METHODS}

    def median(method: str, name: str) -> float:
        return statistics.median(record[f"time/{name}"] for record in results[method][0][2:])

    names = {**PHASES, "update_weights": "weight sync", "step": "whole step"}
    titles = ["phase, median s", "VA-OPD"]
    rows = [[label, f"{median('VA-OPD', name):.3f}"] for name, label in names.items()]
    for method in list(METHODS)[1:]:
        titles += [method, "VA-OPD / it"]
        for row, name in zip(rows, names, strict=True):
            row += [f"{median(method, name):.3f}", f"{median('VA-OPD', name) / median(method, name):.2f}"]
    tables = [markdown_table(titles, rows)]
    moved = results["VA-OPD"][1]
    rows = [[kind, fields, f"{size / args.steps:.2f}"] for (kind, fields), size in moved.most_common()]
    total = sum(moved.values()) / args.steps
    titles = ["VA-OPD", "fields", "MiB a step"]
    tables.append(markdown_table(titles, [*rows, ["all", "", f"{total:.2f}"]], text_columns=2))
    publish(f"One whole step: 16 prompts x 4 rollouts of {args.response} tokens", args, tables)


if __name__ == "__main__":
    main()
