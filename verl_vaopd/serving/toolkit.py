"""The toolkit's side, run by the interpreter of ``scripts/setup.sh --eval``: prompts and verdicts of VLMEvalKit 0.0.20.

Nothing of this package is imported here. One JSON object a line comes on stdin and is answered on stdout; whatever the
toolkit prints goes to stderr.
"""

import base64
import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ["PRED_FORMAT"] = "tsv"  # xlsx cuts long answers, json is not read back as a table

import pandas as pd  # noqa: E402
from PIL import Image  # noqa: E402
from vlmeval.dataset import build_dataset  # noqa: E402
from vlmeval.dataset import image_base as toolkit_base  # noqa: E402
from vlmeval.dataset.utils.mathverse import MathVerse_acc, post_check_score  # noqa: E402
from vlmeval.dataset.utils.mathvista import post_check  # noqa: E402
from vlmeval.dataset.utils.wemath import load_and_process_data  # noqa: E402
from vlmeval.smp import LMUDataRoot, dump, load  # noqa: E402

NO_JUDGE = "exact_matching"
RANDOM = "randomly generate one"  # the toolkit's log where it drew an option at random
UNREAD = "Failed in Prefetch"
RETRIES_FAILED = "All 5 retries failed"
datasets: dict[str, object] = {}
# "None" and "NA" are options, not gaps; an answer is a text, though all of them be numbers.
pd.read_csv = partial(pd.read_csv, keep_default_na=False, na_values=[""], dtype={"prediction": str})


def write_image(folder: Path, encoded: str) -> str:
    """Write the bytes of the data file as they are, under their hash. Returns the path."""
    data = base64.b64decode(encoded)
    suffix = Image.open(io.BytesIO(data)).format.lower()
    path = folder / f"{hashlib.sha256(data).hexdigest()[:24]}.{suffix}"
    if not path.exists():
        aside = path.with_suffix(f".tmp-{os.getpid()}")
        aside.write_bytes(data)
        aside.rename(path)
    return str(path)


def keep_image_bytes(dataset, folder: Path) -> None:
    """Replace the toolkit's way from data file to image file, which decodes and encodes again."""
    toolkit_way = dataset.dump_image

    def dump_image(line):
        if "image" not in line:
            return toolkit_way(line)
        images = line["image"] if isinstance(line["image"], list) else [line["image"]]
        return [write_image(folder, image) for image in images]

    dataset.dump_image = dump_image


def trust_any_file() -> None:
    """Use data files as they are, whatever their MD5."""
    waiting = [toolkit_base.ImageBaseDataset]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        cls.DATASET_MD5 = {}


def prepare(dataset: str, output: str, split: str | None, limit: int | None, any_file: bool, prompt: str | None):
    """Write the questions: index, content in the toolkit's words, the other columns as text.

    ``prompt`` "cot" is the toolkit's chain-of-thought wording of MathVerse, which it offers for one version only: the
    class takes the wording from the data set's name.
    """
    if any_file:
        trust_any_file()
    opened = build_dataset(dataset)  # a file that is missing, or not the known one, is downloaded
    if prompt:
        opened.dataset_name = f"{dataset}_{prompt}"
    images = Path(LMUDataRoot()) / "images" / "as-given"
    images.mkdir(parents=True, exist_ok=True)
    keep_image_bytes(opened, images)
    data = opened.data
    if split is not None:
        data = data[data["split"] == split]
    opened.data = data = data.head(limit).reset_index(drop=True) if limit else data.reset_index(drop=True)
    with open(output, "w") as questions:
        for n in range(len(data)):
            row = data.iloc[n]
            content = [
                {"image": str(each["value"])} if each["type"] == "image" else {"text": each["value"]}
                for each in opened.build_prompt(row)
            ]
            known = {name: str(value) for name, value in row.items() if name != "image" and is_known(value)}
            questions.write(json.dumps({"index": str(row["index"]), "content": content, "row": known}) + "\n")
    opened.data = data.drop(columns=["image"], errors="ignore")
    opened.dataset_name = dataset
    datasets[dataset] = opened
    return {"questions": len(data), "file_md5": toolkit_base.md5(opened.data_path)}


def is_known(value) -> bool:
    return isinstance(value, list) or not pd.isna(value)


def by_index(path: str) -> dict[str, dict]:
    """The toolkit's pickle of verdicts, index -> {hit, log}."""
    with open(path, "rb") as file:
        return {str(index): verdict for index, verdict in pickle.load(file).items()}


def multiple_choice(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    """AI2D, MMMU, MMStar, WeMath with a judge: an option drawn at random counts as unparsed and wrong."""
    report = None
    with contextlib.suppress(ZeroDivisionError):  # WeMath's rate of rote memorisation when nothing is right
        report = dataset.evaluate(file, **judge)
    verdicts = by_index(file.replace(".tsv", f"_{judge['model']}_result.pkl"))
    rows = []
    for index in table["index"]:
        hit, log = verdicts[str(index)]["hit"], verdicts[str(index)]["log"]
        unparsed = RANDOM in log
        rows.append({"correct": bool(hit) and not unparsed, "unparsed": unparsed, "unread": UNREAD in log, "log": log})
    if report is None or any(row["unparsed"] for row in rows):
        return rows, {}
    if dataset.dataset_name == "WeMath":
        return rows, wemath_figures(table, report)
    return rows, {"accuracy": 100 * float(report["Overall"].iloc[0])}


def wemath(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    """Without a judge by the toolkit's rule: the first letter behind the last "Answer"."""
    if judge["model"] != NO_JUDGE:
        return multiple_choice(dataset, table, file, judge)
    dump(table.assign(prediction=[str(each).strip() or "-" for each in table["prediction"]]), file)
    report = None
    with contextlib.suppress(ZeroDivisionError):  # as above
        report = dataset.evaluate(file, **judge)
    right = load_and_process_data(file)["joker"]
    rows = [{"correct": bool(each), "unparsed": False, "unread": False, "log": "by rule"} for each in right]
    return rows, {} if report is None else wemath_figures(table, report)


def wemath_figures(table: pd.DataFrame, report: pd.DataFrame) -> dict:
    """Strict and loose from the toolkit's counts, such as "50.00% (1)"; its own score divides by 525, all problems."""
    questions = table.groupby("ID")["key"]
    if not questions.agg(lambda keys: len(keys) == int(keys.iloc[0][0]) + 1).all():
        return {}  # a limit has cut a problem
    figures = {}
    for kind in ("Strict", "Loose"):
        lost = {
            name: int(report[f"{name} ({kind})"].iloc[0].split("(")[1].rstrip(")"))
            for name in ("InsufficientKnowledge", "InadequateGeneralization", "RoteMemorization")
        }
        lost["InadequateGeneralization"] /= 2
        figures[kind.lower()] = 100 * (1 - sum(lost.values()) / len(questions))
    return figures


def yes_or_no(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    """HallusionBench."""
    report = dataset.evaluate(file, **judge)
    matched = load(file.replace(".tsv", "_auxmatch.tsv"))
    unknown = matched["extracted"] == "Unknown"
    without = judge["model"] == NO_JUDGE
    rows = [
        {"correct": bool(score), "unparsed": bool(lost) and not without, "unread": bool(lost) and without, "log": said}
        for score, lost, said in zip(matched["score"], unknown, matched["extracted"].astype(str), strict=True)
    ]
    overall = report[report["split"] == "Overall"].iloc[0]
    return rows, {name: float(overall[name]) for name in ("aAcc", "fAcc", "qAcc")}


def mathvista(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    report = dataset.evaluate(file, **judge)
    judged = load(file.replace(".tsv", f"_{judge['model']}.tsv"))
    rows = [
        {
            "correct": bool(post_check(row, prefetch=False)),
            "unparsed": RETRIES_FAILED in row["log"],
            "unread": False,
            "log": f"{row['log']}: {row['res']}",
        }
        for _, row in judged.iterrows()
    ]
    return rows, {"accuracy": float(report[report["Task&Skill"] == "Overall"]["acc"].iloc[0])}


def mathverse(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    """Without a judge by the toolkit's rule: what was given as the answer is the truth, letter by letter."""
    if judge["model"] == NO_JUDGE:
        scored = file.replace(".tsv", "_score.tsv")
        by_rule = table.assign(extract=table["prediction"])
        by_rule["score"] = [int(post_check_score(row)) for _, row in by_rule.iterrows()]
        dump(by_rule, scored)
        report = MathVerse_acc(scored)
        rows = [
            {"correct": bool(right), "unparsed": False, "unread": False, "log": "by rule"} for right in by_rule["score"]
        ]
        return rows, {version: float(value) for version, value in zip(report["split"], report["Overall"], strict=True)}
    report = dataset.evaluate(file, **judge)
    judged = load(file.replace(".tsv", f"_{judge['model']}_score.tsv"))
    rows = [
        {
            "correct": bool(row["score"]),
            "unparsed": RETRIES_FAILED in f"{row['log_extract']} {row['log_score']}",
            "unread": False,
            "log": f"extracted: {row['extract']}",
        }
        for _, row in judged.iterrows()
    ]
    return rows, {version: float(value) for version, value in zip(report["split"], report["Overall"], strict=True)}


def ocrbench(dataset, table: pd.DataFrame, file: str, judge: dict) -> tuple[list[dict], dict]:
    """The toolkit counts over a file and tells no question's verdict: it is given the whole, then row by row."""
    report = dataset.evaluate(file)
    single = file.replace(".tsv", "_single.tsv")
    rows = []
    for n in range(len(table)):
        dump(table.iloc[n : n + 1], single)
        right = dataset.evaluate(single)["Final Score"]
        rows.append({"correct": bool(right), "unparsed": False, "unread": False, "log": ""})
    return rows, {"accuracy": 100 * report["Final Score"] / len(table)}


SCORERS: dict[str, Callable] = {
    "WeMath": wemath,
    "MathVista_MINI": mathvista,
    "MathVerse_MINI": mathverse,
    "HallusionBench": yes_or_no,
    "AI2D_TEST": multiple_choice,
    "MMMU_DEV_VAL": multiple_choice,
    "MMStar": multiple_choice,
    "OCRBench": ocrbench,
}


def score(
    dataset: str, predictions: list[str], judge_url: str | None, workers: int, folder: str, by_rule: bool = False
):
    """Verdicts of one pass, in the order of the questions, and the toolkit's own figures to check against.

    A verdict: ``correct``; ``unparsed``, no answer could be read even by the judge; ``unread``, rules could not read it
    and there is no judge, which counts as wrong where scores are ``by_rule``; ``log``.
    """
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)  # the judge's relay is on loopback
    opened = datasets[dataset]
    table = opened.data.copy()
    table["prediction"] = predictions
    judge = {"model": NO_JUDGE, "nproc": workers}
    if judge_url:
        judge = {"model": "judge", "api_base": judge_url, "key": "none", "retry": 1, "nproc": workers}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = f"{place}/pass_{dataset}.tsv"
        dump(table, file)
        rows, official = SCORERS[dataset](opened, table, file, judge)
    if by_rule:
        rows = [{**row, "unread": False} for row in rows]
    return {"verdicts": rows, "official": official}


def main() -> None:
    commands = {"prepare": prepare, "score": score}
    print(json.dumps({"toolkit": f"ms-vlmeval {version('ms-vlmeval')}"}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = commands[request.pop("command")](**request)
        except Exception as error:
            with contextlib.suppress(OSError):  # the log is on the same disk
                traceback.print_exc()
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            reply = {"error": f"{type(error).__name__}: {error}", "disk_full": full}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
