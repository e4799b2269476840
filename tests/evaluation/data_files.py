"""Small files in the eight data formats of the toolkit: tab-separated, images inside as base64."""

import base64
import csv
import io
from pathlib import Path

from PIL import Image, ImageDraw

# The toolkit reads an option out of an answer that holds its text and no other's: here "a", which any model may say.
OPTIONS = {"A": "a", **{letter: f"nothing of the kind, nor {letter * 40} either" for letter in "BCD"}}


def image(number: int) -> str:
    """A small figure with a number on it, as PNG in base64."""
    figure = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(figure).text((8 + number % 7, 20), str(number), fill="black")
    written = io.BytesIO()
    figure.save(written, format="PNG")
    return base64.b64encode(written.getvalue()).decode()


def write(folder: Path, name: str, rows: list[dict]) -> None:
    with open(folder / f"{name}.tsv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def choice(index: int, **more) -> dict:
    return {"index": index, "image": image(index), "question": f"Which letter belongs to figure {index}?", **OPTIONS,
            "answer": "AAAB"[index % 4], "category": "figures", **more}  # fmt: skip


def wemath_rows() -> list[dict]:
    """Problems of two, three and two steps, each step a question; the first step of p2 has another right option."""
    keys = [("p1", f"2steps_{n}") for n in (1, 2, "multi")] + [("p2", f"3steps_{n}") for n in (1, 2, 3, "multi")]
    keys += [("p3", f"2steps_{n}") for n in (1, 2, "multi")]
    return [
        choice(n, ID=problem, key=key, **{"knowledge concept": "Area of Circles"})
        for n, (problem, key) in enumerate(keys)
    ]


def mathverse_rows() -> list[dict]:
    versions = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
    metadata = "{'split': 'testmini', 'source': 'test', 'subject': 'Plane Geometry', 'subfield': 'Length'}"
    return [
        {"index": n, "image": image(n), "question": f"How long is the side? {version}", "answer": "7",
         "question_for_eval": "How long is the side?", "query_cot": f"Think first. How long is the side? {version}",
         "problem_index": n // 5, "problem_version": version, "metadata": metadata}
        for n, version in enumerate(versions)
    ]  # fmt: skip


def mathvista_rows() -> list[dict]:
    shared = {"task": "geometry problem solving", "skills": "['geometry reasoning']"}
    return [
        {"index": 1, "image": image(1), "question": "What is the sum?", "question_type": "free_form",
         "answer_type": "integer", "answer": "12", "answer_option": "", "choices": "", **shared},
        {"index": 2, "image": image(2), "question": "Which is it?", "question_type": "multi_choice",
         "answer_type": "text", "answer": "a", "answer_option": "A", "choices": str(list(OPTIONS.values())), **shared},
        {"index": 3, "image": image(3), "question": "How much is it?", "question_type": "free_form",
         "answer_type": "float", "answer": "1.5", "answer_option": "", "choices": "", **shared},
    ]  # fmt: skip


def hallusion_rows() -> list[dict]:
    """Two figures of one set, each under two questions, and one more set."""
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)]
    return [
        {"index": f"VD_illusion_1_{of_set}_{figure}_{question}", "image": image(n), "category": "VD",
         "l2-category": "illusion", "question": "Is the left circle larger?", "answer": "Yes" if n % 2 else "No"}
        for n, (of_set, figure, question) in enumerate(keys)
    ]  # fmt: skip


def ocr_rows() -> list[dict]:
    return [
        {"index": n, "image": image(n), "question": "What is written?", "answer": str(answers),
         "category": category}
        for n, (answers, category) in enumerate(
            [(["1", "one"], "Regular Text Recognition"), (["2"], "Doc-oriented VQA"), (["e"], "Scene Text-centric VQA")]
        )
    ]  # fmt: skip


def write_all(folder: Path) -> None:
    """The eight files, under the names the toolkit looks for in the folder ``LMUData``."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = ("dev", "validation", "validation", "validation")
    write(folder, "WeMath", wemath_rows())
    write(folder, "MathVista_MINI", mathvista_rows())
    write(folder, "MathVerse_MINI", mathverse_rows())
    write(folder, "HallusionBench", hallusion_rows())
    write(folder, "AI2D_TEST", [choice(n) for n in range(4)])
    write(folder, "MMMU_DEV_VAL", [choice(n, split=split) for n, split in enumerate(splits)])
    write(folder, "MMStar", [choice(n, l2_category="shapes") for n in range(4)])
    write(folder, "OCRBench", ocr_rows())
