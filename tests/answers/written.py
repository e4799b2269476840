"""Answers as if a teacher had written them: to each row a right one and a wrong one, in turn."""

import pyarrow.parquet as pq

from verl_vaopd.answers.store import AnswerWriter
from verl_vaopd.data.reward import compute_score


def write_answers(folder, data, tokenizer, samples: int = 2, part_rows: int = 5) -> list[dict]:
    """Store ``samples`` answers to every row of the parquet file ``data``. Returns what was stored."""
    rows = pq.read_table(data).to_pylist()
    writer = AnswerWriter(folder, {"teacher": "by hand", "samples": samples})
    written = []
    for part, start in enumerate(range(0, len(rows), part_rows)):
        answers = [answer(row, n, tokenizer) for row in rows[start : start + part_rows] for n in range(samples)]
        writer.write(part, answers)
        written += answers
    writer.finish()
    return written


def answer(row: dict, sample: int, tokenizer) -> dict:
    truth = row["reward_model"]["ground_truth"]
    text = "The sum. \\boxed{%s}" % (truth if sample % 2 == 0 else "1")
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    return {
        "id": row["extra_info"]["id"],
        "sample": sample,
        "token_ids": ids,
        "log_probs": [-0.5] * len(ids),
        "text": text,
        "accuracy": compute_score(row["data_source"], text, truth)["acc"],
    }
