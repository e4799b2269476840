"""The command: rows come out as verl's, bad ones are named, what is complete is left, the rest is made whole."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.upstream import contents, encoded, rows_in
from verl_vaopd.own_data.__main__ import main
from verl_vaopd.own_data.fields import parse_map
from verl_vaopd.own_data.tables import open_table

MAP = "question=q,answer=a,image=image,id=id"


def pictures(number):
    return encoded((number % 256, number // 256, 7))


def line(number, **changes):
    return {"id": number, "q": f"What is in {number}?", "a": str(number), "image": f"pics/{number}.png"} | changes


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path.parent / "pics").mkdir(exist_ok=True)
    for row in rows:
        if isinstance(row.get("id"), int):
            (path.parent / f"pics/{row['id']}.png").write_bytes(pictures(row["id"]))
    return path


@pytest.fixture
def convert(tmp_path, capsys, monkeypatch):
    """``convert(*arguments)`` in ``tmp_path``, to ``out``; returns exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, fields=MAP, output="out"):
        code = main(["convert", *(("--map", fields) if fields else ()), *map(str, arguments), "--output", output])
        return code, "".join(capsys.readouterr())

    return run


def manifest_of(tmp_path):
    return json.loads((tmp_path / "out/manifest.json").read_text())


def ids(tmp_path, part="train", output="out"):
    return [row["extra_info"]["id"] for row in rows_in(tmp_path / output / f"{part}.parquet")]


def test_rows_of_jsonl_become_rows_of_verl(convert, tmp_path):
    rows = [line(0), line(1, q="Is <image> it?", a=r"\boxed{1}"), {"id": "t", "q": "1 + 1?", "a": 2}]
    write_lines(tmp_path / "a.jsonl", rows)
    code, printed = convert("--from", "a.jsonl")
    assert code == 0, printed
    assert rows_in(tmp_path / "out/train.parquet") == [
        {
            "data_source": "a",
            "prompt": [{"role": "user", "content": question}],
            "images": [{"bytes": image, "path": None} for image in images],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": truth},
            "extra_info": {"split": "train", "index": index, "id": row_id, "question": question, "answer": answer},
        }
        for index, (question, images, truth, row_id, answer) in enumerate(
            [
                ("<image>What is in 0?", [pictures(0)], "0", "a/0", "0"),
                ("Is <image> it?", [pictures(1)], "1", "a/1", r"\boxed{1}"),
                ("1 + 1?", [], "2", "a/t", "2"),
            ]
        )
    ]
    manifest = manifest_of(tmp_path)
    assert manifest["notes"] == ["a.jsonl: <image> was put in front of 1 questions"]
    assert manifest["counts"] == {"train": 3} and manifest["upstream_rows"] == {"a": 3}
    assert manifest["sources"]["a"]["map"] == MAP and set(manifest["files"]) == {"train.parquet"}


def test_rows_of_parquet_and_of_chats(convert, tmp_path):
    chat = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "5"}]
    rows = [{"unused": 1, "turns": chat, "shown": [{"bytes": pictures(n), "path": None}] * n} for n in (1, 2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    code, printed = convert(
        "--from", "b.parquet", fields="answer=turns[1].value,question=turns[0].value,image=shown"
    )  # fmt: skip
    assert code == 0, printed
    made = rows_in(tmp_path / "out/train.parquet")
    assert [row["prompt"][0]["content"] for row in made] == ["<image>\nWhat?", "<image><image>\nWhat?"]
    assert [len(row["images"]) for row in made] == [1, 2] and ids(tmp_path) == ["b/0", "b/1"]
    assert "as often as there are images in 1 questions" in printed


def test_rows_that_verl_has_already_come_out_the_same(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(0), line(1)])
    assert convert("--from", "a.jsonl")[0] == 0
    again = "question=prompt[0].content,answer=reward_model.ground_truth,image=images"
    code, printed = convert("--from", "out/train.parquet", fields=again, output="again")
    assert code == 0, printed
    for part in ("prompt", "images", "reward_model"):
        first, second = ([row[part] for row in rows_in(tmp_path / name / "train.parquet")] for name in ("out", "again"))
        assert first == second


BAD = {
    "missing_field": ({"id": 1, "q": "x"}, "a: has no 'a'"),
    "empty_question": (line(1, q=" "), "q: has no text"),
    "empty_answer": (line(1, a=r"\boxed{}"), "a: is empty"),
    "not_text": (line(1, q=5), "q: is int 5, it must be text"),
    "answer": (line(1, a=["x"]), "a: is list ['x']"),
    "answer ": (b'{"id": 1, "q": "x", "a": 1e400}', "a: is a number beyond what 64 bits hold, or infinite"),
    "answer  ": (b'{"id": 1, "q": "x", "a": -Infinity}', "a: is a number beyond what 64 bits hold, or infinite"),
    "empty_answer ": (line(1, a=" \u200b "), r"a: is ' \u200b ', in which nothing shows"),
    "missing_image": (line(1, image="pics/none.png"), "pics/none.png cannot be read"),
    "unreadable_image": (line(1, image="a.jsonl"), "image: not a readable image"),
    "outside_root": (line(1, image="../x.png"), "leads out of"),
    "placeholder_mismatch": (line(1, image=None, q="<image>?"), "has 1 <image> placeholders for 0 images"),
    "placeholder_mismatch ": (line(1, q="<video>?"), "has a <video> placeholder"),
    "duplicate_id": (line(0), "'a/0' is the id of an earlier row"),
    "missing_id": (line(1, id=None), "id: is empty"),
    "not_utf8": (line(1, q="\ud800"), "q: is not UTF-8 text"),
    "not_json": (b'{"id": 1,', "line: is no JSON"),
    "not_json ": (b"[1, 2]", "line: holds no object but list"),
    "not_json  ": (b"[" * 100_000, "line: is no JSON"),
    "not_utf8 ": (b'{"id": "\xff"}', "line: is not UTF-8 text"),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_rows_are_named_or_left_out(convert, tmp_path, reason):
    bad, says = BAD[reason]
    write_lines(tmp_path / "a.jsonl", [line(0), line(1), line(2)])
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    lines[1] = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    code, printed = convert("--from", "a.jsonl")
    assert code == 1 and contents(tmp_path / "out") == {}
    assert "a.jsonl, row 1 (id 'a/" in printed or reason == "missing_id"
    assert says in printed and "Mend: " in printed and f"{reason.strip()}: 1" in printed
    code, printed = convert("--from", "a.jsonl", "--on-error", "skip")
    assert code == 0 and ids(tmp_path) == ["a/0", "a/2"]
    assert manifest_of(tmp_path)["left_out"][reason.strip()]["count"] == 1 and "not used: 1" in printed


def test_a_value_of_parquet_that_is_not_utf8_is_a_bad_row(convert, tmp_path):
    text = pa.array([b"fine?", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": text, "a": ["1", "2"]}), tmp_path / "b.parquet")
    code, printed = convert("--from", "b.parquet", fields="question=q,answer=a")
    assert code == 1 and "b.parquet, row 1 (id 'b/1'), q: is not UTF-8 text" in printed


def test_rows_are_lines_whether_or_not_some_are_empty(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"q": 1}\r\n\n  \n{"q": 2}')
    table = open_table(str(tmp_path / "a.jsonl"))
    assert [(row, values) for _, row, values in table.rows(parse_map("question=q,answer=q"))] == [
        (0, {"q": 1}), (3, {"q": 2}),
    ]  # fmt: skip
    assert len(table) == 4


@pytest.mark.parametrize(
    "data, says",
    [
        (b'[{"q": "x", "a": "5"}]', "row 0 (id 'a/0'), line: holds no object but list"),
        ('{"q": "\xe9", "a": "5"}'.encode("cp1252"), "row 0 (id 'a/0'), line: is not UTF-8 text"),
        ('{"q": "x", "a": "5"}'.encode("utf-16"), "row 0 (id 'a/0'), line: is not UTF-8 text"),
        (b'{"q": "x", "a": "5"}\r{"q": "x", "a": "5"}', "row 0 (id 'a/0'), line: is no JSON"),
        (b'{"q": "x", "a": "5"}', "row 0 (id ''), id: is empty"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--validation", 1)])
def test_where_every_row_is_bad_the_reasons_are_told(convert, tmp_path, data, says, more):
    (tmp_path / "a.jsonl").write_bytes(data)
    code, printed = convert("--from", "a.jsonl", "--on-error", "skip", *more)
    assert code == 1 and contents(tmp_path / "out") == {}
    assert "1 bad rows (" in printed and says in printed and "Mend: " in printed


def test_where_the_rows_with_images_are_bad_the_reasons_are_told(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(0, image=None), line(1, image="pics/none.png")])
    code, printed = convert("--from", "a.jsonl", "--on-error", "skip")
    assert code == 1 and "no row of a.jsonl has an image" in printed and "none.png cannot be read" in printed


def test_no_image_in_any_row_is_a_wrong_map(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(0), line(1)])
    code, printed = convert("--from", "a.jsonl", fields="question=q,answer=a,image=img,image=picture")
    assert code == 1 and "no row of a.jsonl has an image at img or picture" in printed
    assert contents(tmp_path / "out") == {}


def test_paths_start_from_the_root_that_is_given(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(0, image="0.png")])
    assert convert("--from", "a.jsonl")[0] == 1
    assert convert("--from", "a.jsonl", "--image-root", "pics")[0] == 0
    code, printed = convert("--from", "a.jsonl", "--image-root", "nowhere", output="other")
    assert code == 2 and "--image-root nowhere is no folder" in printed


def test_a_complete_folder_is_verified_and_left(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(6)])
    asked = ["--from", "a.jsonl", "--validation", 2, "--seed", 3]
    assert convert(*asked)[0] == 0
    before = contents(tmp_path / "out")
    assert set(before) == {"train.parquet", "validation.parquet", "manifest.json"}
    (tmp_path / "pics/0.png").unlink()
    code, printed = convert(*asked)
    assert code == 0 and "complete, checksums verified; rows: 2 validation, 4 train" in printed
    assert contents(tmp_path / "out") == before
    for other, says in (
        (["--from", "a.jsonl", "--seed", 3], "made with --validation 2, not 0"),
        (["--from", "a.jsonl", "--validation", 2], "made with --seed 3, not 0"),
        ([*asked, "--weight", 2], "with --weight 1.0, not 2.0"),
        ([*asked, "--image-root", "pics"], "with --image-root None, not"),
        (["--from", "b.jsonl", *asked[2:]], "was made from a, not b"),
    ):
        code, printed = convert(*other)
        assert code == 2 and says in printed and "remove out or choose another" in printed
    code, printed = convert(*asked, fields="question=a,answer=q,image=image,id=id")
    assert code == 2 and "with --map question=q" in printed
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write("\n")
    code, printed = convert(*asked)
    assert code == 2 and "a.jsonl has changed since" in printed
    (tmp_path / "a.jsonl").unlink()
    assert convert(*asked)[0] == 0  # what is there is still whole
    assert contents(tmp_path / "out") == before


def test_a_damaged_folder_is_made_anew_to_the_byte(convert, tmp_path):
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(6)])
    asked = ["--from", "a.jsonl", "--validation", 2, "--weight", 1.5]
    assert convert(*asked)[0] == 0
    before = {name: data for name, (data, _) in contents(tmp_path / "out").items()}
    (tmp_path / "out/train.parquet").write_bytes(b"short")
    code, printed = convert(*asked)
    assert code == 0 and "train.parquet has 5 bytes" in printed
    assert {name: data for name, (data, _) in contents(tmp_path / "out").items()} == before


def test_ctrl_c_leaves_nothing(convert, tmp_path, monkeypatch):
    from verl_vaopd.data.rows import RowWriter

    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(4)])
    write = RowWriter.write

    def write_two(self, row):
        if len(self.ids) == 2:
            assert list((tmp_path / "out").glob("*.partial"))
            raise KeyboardInterrupt
        write(self, row)

    monkeypatch.setattr(RowWriter, "write", write_two)
    assert convert("--from", "a.jsonl", "--validation", 1)[0] == 130
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize(
    "name, says",
    [
        ("nowhere.jsonl", "there is no such file"),
        ("a.csv", "must be a .parquet or .jsonl file, or hub:NAME[:SPLIT]"),
        ("a.json", "jq -c '.[]' FILE.json > FILE.jsonl"),
        ("broken.parquet", "is not a readable parquet file"),
        ("b.parquet", "has no column 'a' (it has q)"),
    ],
)
def test_a_source_that_is_none_is_named(convert, tmp_path, name, says):
    (tmp_path / "a.csv").write_text("q,a")
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1, but")
    pq.write_table(pa.table({"q": ["x"]}), tmp_path / "b.parquet")
    code, printed = convert("--from", name, fields="question=q,answer=a")
    assert code == (1 if name == "broken.parquet" else 2) and says in printed
    assert not os.path.exists("out/manifest.json")


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "required: --from"),
        (["--from", "a.jsonl"], "--from a.jsonl has no --map"),
        (["--weight", "2", "--from", "a.jsonl", "--map", MAP], "--weight belongs to the --from before it"),
        (["--from", "a.jsonl", "--map", MAP, "--weight", "0"], "0 is no number above 0"),
        (["--from", "a.jsonl", "--map", MAP, "--weight", "2", "--weight", "3"], "given twice for --from a.jsonl"),
        (["--from", "a.jsonl", "--map", MAP, "--map", MAP], "--map is given twice"),
        (["--from", "a.jsonl", "--map", "question=q"], "has no answer=FIELD"),
        (["--from", "a.jsonl", "--map", MAP, "--validation", "-1"], "-1 is below 0"),
        (["--from", "a.jsonl", "--map", MAP, "--revision", "v1"], "--revision needs exactly one hub: source"),
    ],
)
def test_bad_usage_exits_2(convert, arguments, says, capsys):
    with pytest.raises(SystemExit) as error:
        convert(*arguments, fields=None)
    assert error.value.code == 2 and says in capsys.readouterr().err


def test_the_other_data_sets_are_still_there(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--help"])
    printed = capsys.readouterr().out
    assert error.value.code == 0 and "geometry3k" in printed and "verl-vaopd data convert --help" in printed
