"""What the tests that start the whole stack share."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = Path(os.environ.get("VAOPD_TINY_DIR", Path(os.environ.get("VAOPD_CACHE", ROOT / ".cache")) / "tiny"))


def run(*command, timeout=1800, **env) -> subprocess.CompletedProcess:
    """Run to the end; the run's own words are part of every failure."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    print(result.stdout[-6000:])
    return result


@cache
def tiny_folder() -> Path:
    """Models and data of the tiny recipes. Made if they are not there, which takes minutes: before any clock starts."""
    made = run(sys.executable, "-m", "verl_vaopd.cli", "tiny", "--output", TINY)
    assert made.returncode == 0
    return TINY


def run_ranks(module: str, worlds: tuple[int, ...], folder: Path, timeout: int = 1800) -> None:
    """``python -m module RANK WORLD FOLDER`` for every rank of every world, all at once."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(rank), str(world), str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for world in worlds
        for rank in range(world)
    ]
    logs = [rank.communicate(timeout=timeout)[0] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(log[-3000:] for log in logs)


def records(output: Path) -> list[dict]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def read_summary(output: Path) -> dict:
    """What a finished run left in ``summary.json``."""
    return json.loads((output / "summary.json").read_text())


def mixed_rows(path: Path, count: int) -> Path:
    """Rows with one image, with two images and with text only, in turn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from verl_vaopd.data.synthetic_geometry import make_row

    rows = []
    for index in range(count):
        row, other = make_row("train", 2 * index), make_row("train", 2 * index + 1)
        kind = index % 3
        row["images"] = [row["images"], row["images"] + other["images"], []][kind]
        row["prompt"] = [{"role": "user", "content": "<image>" * len(row["images"]) + "Add the numbers."}]
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def one_question(path: Path, count: int) -> Path:
    """Rows that tokenise to the same number of tokens."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from verl_vaopd.data.synthetic_geometry import make_row

    rows = [make_row("train", index) for index in range(count)]
    for row in rows:
        row["prompt"] = [{"role": "user", "content": "<image>Add the numbers."}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


GENERATE = """
import json, os, sys
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
import io
from datasets import load_dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
student, data = sys.argv[1:]
processor = AutoProcessor.from_pretrained(student)
row = load_dataset("parquet", data_files=data, split="train")[0]
image = Image.open(io.BytesIO(row["images"][0]["bytes"])).convert("RGB")
question = row["prompt"][0]["content"].removeprefix("<image>")
chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
inputs = processor(text=[text], images=[image], return_tensors="pt")
model = AutoModelForImageTextToText.from_pretrained(student, dtype="float32")  # as vLLM below
plain = model.generate(**inputs, do_sample=False, max_new_tokens=48)[0, inputs["input_ids"].shape[1]:]
from vllm import LLM, SamplingParams
llm = LLM(student, dtype="float32", enforce_eager=True, max_model_len=256, limit_mm_per_prompt={"image": 1, "video": 0})
prompt = {"prompt": text, "multi_modal_data": {"image": image}}
served = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=48))
end = processor.tokenizer.eos_token_id
both = [[int(i) for i in ids if i != end] for ids in (plain, served[0].outputs[0].token_ids)]
print("ANSWERS", json.dumps([[processor.tokenizer.decode(ids), ids] for ids in both]))
"""


def greedy_answers(student: Path, data: Path) -> list[tuple[str, list[int]]]:
    """Of transformers and of vLLM to the first question of ``data``, decoded greedily in float32: text and ids."""
    result = run(sys.executable, "-c", GENERATE, student, data, timeout=1800)
    assert result.returncode == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS "))


def assert_answers_alike(student: Path, data: Path) -> None:
    """The first question of ``data`` has one answer in transformers and vLLM, decoded greedily, and it is boxed."""
    (plain, _), (served, _) = greedy_answers(student, data)
    assert plain == served and "\\boxed{" in plain
