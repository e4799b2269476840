"""Geometry3K becomes verl's rows unchanged; every kind of bad row is named, and left out only when asked."""

import json
import random
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.upstream import contents, encoded, png_that_claims, problem, rows_in, write_geometry3k
from verl_vaopd.data import geometry3k
from verl_vaopd.data.__main__ import main


@pytest.fixture
def convert(tmp_path, capsys):
    """Writes the given splits as the source, runs the command, returns exit code, output folder, what was printed."""

    def run(*arguments, **splits):
        source = write_geometry3k(tmp_path / "source", **splits)
        code = main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source), *arguments])
        return code, tmp_path / "out", "".join(capsys.readouterr())

    return run


def manifest_of(output):
    return json.loads((output / "manifest.json").read_text())


def test_rows_are_upstreams(convert):
    two = problem(2, problem="<image> and <image>", answer="\\sqrt{2}")
    two["images"] = [{"bytes": encoded("red", kind="JPEG"), "path": "a.jpg"}, {"bytes": encoded("blue"), "path": None}]
    code, output, _ = convert(train=[problem(1), two, problem(3)])
    assert code == 0
    rows = rows_in(output / "train.parquet")
    assert [row["extra_info"]["id"] for row in rows] == ["g1", "g2", "g3"]
    assert rows[1] == {
        "data_source": "geometry3k",
        "prompt": [{"role": "user", "content": "<image> and <image>"}],
        "images": [{"bytes": image["bytes"], "path": None} for image in two["images"]],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "\\sqrt{2}"},
        "extra_info": {
            "split": "train", "index": 1, "id": "g2", "question": "<image> and <image>", "answer": "\\sqrt{2}",
        },
    }  # fmt: skip
    assert [row["extra_info"]["id"] for row in rows_in(output / "validation.parquet")] == ["g11", "g12"]
    assert [row["extra_info"]["id"] for row in rows_in(output / "test.parquet")] == ["g21"]


def test_manifest(convert):
    _, output, printed = convert()
    manifest = manifest_of(output)
    assert manifest["dataset"] == "geometry3k"
    assert manifest["counts"] == {"train": 3, "validation": 2, "test": 1}
    assert manifest["ids"] == {"train": ["g1", "g2", "g3"], "validation": ["g11", "g12"], "test": ["g21"]}
    assert manifest["validation"] == {"from": "hiyouga/geometry3k, validation split", "rows": 200, "seed": 42}
    source = manifest["sources"]["hiyouga/geometry3k"]
    assert source["revision"] is None and source["folder"].endswith("/source") and len(source["files"]) == 3
    assert set(manifest["files"]) == {"train.parquet", "validation.parquet", "test.parquet"}
    for name in ("hiyouga/geometry3k has 3 train rows, 2,101 are expected", "2 good validation rows where 200"):
        assert name in printed and any(name in note for note in manifest["notes"])


def drawn(indices):
    return [{"extra_info": {"index": index}} for index in indices]


def test_the_200_of_300_validation_rows_are_those_of_the_authors_release():
    chosen = [row["extra_info"]["index"] for row in geometry3k.selected(drawn(range(300)), 300)]
    assert chosen == sorted(random.Random(42).sample(range(300), 200))
    assert chosen[:5] == [0, 2, 3, 4, 7]


def test_a_bad_validation_row_changes_one_choice_only():
    rows = drawn(range(300))
    before = {row["extra_info"]["index"] for row in geometry3k.selected(rows, 300)}
    without = [row for row in rows if row["extra_info"]["index"] != min(before)]
    after = {row["extra_info"]["index"] for row in geometry3k.selected(without, 300)}
    assert len(after) == 200 and len(before - after) == 1


IMAGE = encoded("green")
BAD = {
    "unreadable_image": ({"images": [{"bytes": b"not a picture", "path": None}]}, "images[0]: not a readable image"),
    "unreadable_image ": ({"images": [{"bytes": IMAGE[:-30], "path": None}]}, "images[0]: cannot be decoded"),
    "unreadable_image  ": ({"images": [{"bytes": None, "path": "a.png"}]}, "images[0]: holds no image bytes"),
    "unreadable_image   ": ({"images": [None]}, "images[0]: holds no image bytes"),
    "oversized_image": ({"images": [{"bytes": png_that_claims(10_000, 9_000), "path": None}]}, "10000 x 9000"),
    "oversized_image ": ({"images": [{"bytes": png_that_claims(20_000, 9_000), "path": None}]}, "180000000 pixels"),
    "image_shape": ({"images": [{"bytes": encoded("red", (402, 2)), "path": None}]}, "longer than 200 to 1"),
    "placeholder_mismatch": ({"problem": "Find x."}, "0 <image> placeholders for 1 images"),
    "placeholder_mismatch ": ({"problem": "<image><image> Find x."}, "2 <image> placeholders for 1 images"),
    "placeholder_mismatch  ": ({"problem": "<image> and <video>?"}, "has a <video> placeholder"),
    "empty_question": ({"problem": " <image>\n"}, "problem: has no text"),
    "empty_question ": ({"problem": None}, "problem: has no text"),
    "empty_answer": ({"answer": "  "}, "answer: is empty"),
    "empty_question  ": ({"problem": "<image>\u200b\u2060 "}, "problem: has no text"),
    "empty_answer ": ({"answer": None}, "answer: is empty"),
    "empty_answer  ": ({"answer": " \u200b "}, r"answer: is ' \u200b ', in which nothing shows"),
    "empty_answer   ": ({"answer": "\u3164\x00"}, "in which nothing shows"),
    "empty_answer    ": ({"answer": "."}, "answer: is '.', which no answer is the same as"),
    "duplicate_id": ({"id": "g1"}, "'g1' is the id of an earlier row"),
    "missing_id": ({"id": None}, "id: is empty"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_stops_the_command(convert, kind):
    changes, says = BAD[kind]
    code, output, printed = convert(train=[problem(1), problem(2), problem(3, **changes)])
    assert code == 1
    row_id = {**problem(3), **changes}["id"]
    assert f"train-00000-of-00001.parquet, row 2 (id {row_id!r})" in printed and says in printed
    assert "Mend:" in printed and f"1 bad rows ({kind.strip()}: 1)" in printed and "--on-error skip" in printed
    assert contents(output) == {}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_left_out_when_asked(convert, kind):
    row = problem(3, **BAD[kind][0])
    code, output, printed = convert("--on-error", "skip", train=[problem(1), row, problem(4)])
    assert code == 0 and "row 1" in printed
    manifest = manifest_of(output)
    assert manifest["left_out"] == {kind.strip(): {"count": 1, "ids": [row["id"]]}}
    assert manifest["ids"]["train"] == ["g1", "g4"]
    assert [row["extra_info"]["index"] for row in rows_in(output / "train.parquet")] == [0, 2]  # the rows upstream


def test_all_bad_rows_are_counted_and_twenty_shown(convert):
    code, _, printed = convert(train=[problem(n, answer="") for n in range(23)], test=[problem(21, problem="")])
    assert code == 1
    assert "24 bad rows (empty_answer: 23, empty_question: 1)" in printed
    assert len(re.findall(", row ", printed)) == 20 and "... and 4 more" in printed


def test_bad_validation_and_test_rows_count_too(convert):
    code, output, _ = convert("--on-error", "skip", validation=[problem(11, answer=""), problem(12)])
    assert code == 0 and manifest_of(output)["ids"]["validation"] == ["g12"]


def test_equal_ids_in_two_splits_are_no_duplicates(convert):
    assert convert(train=[problem(1)], validation=[problem(1)], test=[problem(1)])[0] == 0


def test_a_file_without_a_good_row_is_not_written(convert):
    code, output, printed = convert("--on-error", "skip", test=[problem(21, answer="")])
    assert code == 1 and "test has no good row" in printed and contents(output) == {}


def test_why_a_file_has_no_good_row_is_told(convert):
    _, _, printed = convert("--on-error", "skip", test=[problem(21, answer=""), problem(22, problem=None)])
    assert "2 bad rows (empty_answer: 1, empty_question: 1)" in printed
    assert "test-00000-of-00001.parquet, row 1 (id 'g22'), problem: has no text" in printed


OTHER_TYPES = {
    "bytes": ({"images": [[IMAGE]]}, "images[0]: is bytes b'\\x89PNG"),
    "paths": ({"images": [["a.png"]]}, "images[0]: is str 'a.png', it must be a struct"),
    "one struct": ({"images": [{"bytes": IMAGE}]}, "images: is dict {'bytes'"),
    "base64": ({"images": [[{"bytes": "iVBOR"}]]}, "images[0].bytes: is str 'iVBOR', it must be bytes"),
    "question of parts": ({"problem": [[{"type": "image"}]]}, "problem: is list [{'type'"),
    "number": ({"answer": [5]}, "answer: is int 5, it must be text"),
    "list": ({"answer": [["5"]]}, "answer: is list ['5'], it must be text"),
    "id": ({"id": [["a"]]}, "id: is list ['a'], it must be text or an integer"),
    "not UTF-8": ({"answer": pa.array([b"5\xff"]).view(pa.string())}, "answer: is not UTF-8 text"),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_column_of_another_type_is_named(tmp_path, capsys, kind, on_error):
    changes, says = OTHER_TYPES[kind]
    columns = {"images": [[{"bytes": IMAGE}]], "problem": ["<image>x?"], "answer": ["5"], "id": ["a"]} | changes
    source = write_geometry3k(tmp_path / "source")
    pq.write_table(pa.table(columns), source / "data/train-00000-of-00001.parquet")
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source), "--on-error", on_error]
    assert main(arguments) == 1 and contents(tmp_path / "out") == {}
    printed = capsys.readouterr().err
    assert "train-00000-of-00001.parquet, row 0 (id " in printed and says in printed and "Mend:" in printed


def test_ids_may_be_numbers_and_text_of_another_width(tmp_path):
    source = write_geometry3k(tmp_path / "source")
    columns = {"images": [[{"bytes": IMAGE}]], "problem": pa.array(["<image>x?"], pa.large_string()), "id": [5]}
    columns["answer"] = pa.array(["5"]).dictionary_encode()
    pq.write_table(pa.table(columns), source / "data/train-00000-of-00001.parquet")
    assert main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 0
    assert manifest_of(tmp_path / "out")["ids"]["train"] == ["5"]
