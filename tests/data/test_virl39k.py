"""ViRL39K: images come out of the archive as they are, answers out of their box, validation rows out of training."""

import json
import stat
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.upstream import (
    contents,
    encoded,
    link,
    png_that_claims,
    problem,
    question,
    rows_in,
    write_geometry3k,
    write_virl39k,
)
from verl_vaopd.data import archive, images
from verl_vaopd.data.__main__ import main
from verl_vaopd.grading.boxed import unboxed


@pytest.fixture
def convert(tmp_path, capsys):
    """As in test_geometry3k.py; the validation rows are Geometry3K's 11 and 12."""

    def run(*arguments, rows, members=None, links=(), validation=None):
        source = write_virl39k(tmp_path / "source", rows, members, links)
        write_geometry3k(source / "geometry3k", validation=validation)
        code = main(["virl39k", "--output", str(tmp_path / "out"), "--source", str(source), *arguments])
        return code, tmp_path / "out", "".join(capsys.readouterr())

    return run


def manifest_of(output):
    return json.loads((output / "manifest.json").read_text())


def test_rows_with_one_two_and_no_images(convert):
    members = {"images/a.png": encoded("red"), "images/b.jpg": encoded("blue", kind="JPEG"), "images/rest.png": b"?"}
    rows = [
        question(1, image=["images/a.png"]),
        question(2, question="<image> or <image>?", image=["./images/b.jpg", "images/a.png"], answer="\\boxed{B}"),
        question(3, question="2 + 2?", image=[]),
        question(4, question="3 + 3?", image=None),
    ]
    code, output, printed = convert(rows=rows, members=members)
    assert code == 0, printed
    written = rows_in(output / "train.parquet")
    assert [[image["bytes"] for image in row["images"]] for row in written] == [
        [members["images/a.png"]], [members["images/b.jpg"], members["images/a.png"]], [], [],
    ]  # fmt: skip
    assert written[1]["prompt"] == [{"role": "user", "content": "<image> or <image>?"}]
    assert written[1]["data_source"] == "virl39k" and written[1]["ability"] == "math"
    assert written[1]["reward_model"] == {"style": "rule", "ground_truth": "B"}
    assert written[1]["extra_info"] == {
        "split": "train", "index": 1, "id": "v2", "question": "<image> or <image>?", "answer": "\\boxed{B}",
    }  # fmt: skip
    assert "TIGER-Lab/ViRL39K has 4 train rows, 38,870 are expected" in printed


def test_validation_is_geometry3ks_to_the_byte(convert, tmp_path):
    _, output, _ = convert(rows=[question(1)])
    assert main(["geometry3k", "--output", str(tmp_path / "g"), "--source", str(tmp_path / "source/geometry3k")]) == 0
    assert (output / "validation.parquet").read_bytes() == (tmp_path / "g/validation.parquet").read_bytes()
    manifest = manifest_of(output)
    assert set(manifest["files"]) == {"train.parquet", "validation.parquet"}
    assert set(manifest["sources"]) == {"TIGER-Lab/ViRL39K", "hiyouga/geometry3k"}
    assert set(manifest["sources"]["TIGER-Lab/ViRL39K"]["files"]) == {"39Krelease.parquet", "images.zip"}


def test_geometry3k_may_lie_elsewhere(tmp_path):
    source = write_virl39k(tmp_path / "source", [question(1)])
    elsewhere = write_geometry3k(tmp_path / "elsewhere", validation=[problem(17)])
    arguments = ["virl39k", "--output", str(tmp_path / "out"), "--source", str(source)]
    assert main([*arguments, "--geometry3k-source", str(elsewhere)]) == 0
    assert manifest_of(tmp_path / "out")["ids"]["validation"] == ["g17"]


@pytest.mark.parametrize(
    "answer, truth",
    [
        ("\\boxed{42}", "42"),
        (" \\boxed{ \\frac{1}{2} }\n", "\\frac{1}{2}"),
        ("\\boxed{\\boxed{7}}", "\\boxed{7}"),  # one box, no more
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\left\\{ x \\right.}", "\\left\\{ x \\right."),  # an escaped brace opens nothing
        ("\\boxed{}", ""),
        ("\\boxed{1} and \\boxed{2}", None),
        ("\\boxed{\\frac{1}{2}", None),
        ("\\boxed{5}}", None),
        ("5", None),
    ],
)
def test_unboxed(answer, truth):
    assert unboxed(answer) == truth


def test_an_answer_without_one_whole_box_stays_with_a_warning(convert):
    rows = [question(1), question(2, answer="\\boxed{\\frac{1}{2}"), question(3, answer="12")]
    code, output, printed = convert(rows=rows)
    assert code == 0
    truths = [row["reward_model"]["ground_truth"] for row in rows_in(output / "train.parquet")]
    assert truths == ["1", "\\boxed{\\frac{1}{2}", "12"]
    assert manifest_of(output)["warnings"] == {"not_one_box": {"count": 2, "ids": ["v2", "v3"]}}
    assert "2 warnings, rows kept (not_one_box: 2)" in printed and "row 1 (id 'v2')" in printed


PICTURE = encoded("green")
BIG = b"\0" * (images.MAX_BYTES + 1)
BAD = {
    "missing_image": ({"image": ["images/nowhere.png"]}, {}, "'images/nowhere.png' is not in the archive"),
    "missing_image ": ({"image": [None]}, {}, "image[0]: names no image"),
    "outside_archive": ({"image": ["../secret.png"]}, {"../secret.png": PICTURE}, "points outside the archive"),
    "outside_archive ": ({"image": ["images/../../s.png"]}, {}, "points outside the archive"),
    "outside_archive  ": ({"image": ["/etc/s.png"]}, {"/etc/s.png": PICTURE}, "points outside the archive"),
    "outside_archive   ": ({"image": ["images/link.png"]}, {}, "'images/link.png' is a symbolic link"),
    "outside_archive    ": ({"image": ["images/device"]}, {}, "'images/device' is no regular file"),
    "outside_archive     ": ({"image": ["images\\..\\..\\s.png"]}, {}, "points outside the archive"),
    "unreadable_image": ({"image": ["images/x.png"]}, {"images/x.png": b"not a picture"}, "not a readable image"),
    "unreadable_image ": ({"image": ["images/x.png"]}, {"images/x.png": PICTURE[:-30]}, "cannot be decoded"),
    "oversized_image": ({"image": ["images/x.png"]}, {"images/x.png": BIG}, "unpacks to 67,108,865 bytes"),
    "oversized_image ": (
        {"image": ["images/x.png"]}, {"images/x.png": png_that_claims(10_000, 9_000)}, "10000 x 9000 is over",
    ),
    "placeholder_mismatch": ({"question": "What?"}, {}, "has 0 <image> placeholders for 1 images"),
    "placeholder_mismatch ": ({"image": []}, {}, "has 1 <image> placeholders for 0 images"),
    "empty_question": ({"question": "<image>"}, {}, "question: has no text"),
    "empty_answer": ({"answer": ""}, {}, "answer: is empty"),
    "empty_answer ": ({"answer": "\\boxed{ }"}, {}, "answer: is empty"),
    "duplicate_id": ({"qid": "v1"}, {}, "'v1' is the id of an earlier row"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_stop_or_are_left_out(convert, tmp_path, kind):
    changes, members, says = BAD[kind]
    rows = [question(1), question(2, **changes), question(3)]
    pictures = {f"images/v{n}-0.png": PICTURE for n in (1, 2, 3)} | members
    links = [link("images/link.png", "v1-0.png"), link("images/device", "", stat.S_IFCHR)]
    code, output, printed = convert(rows=rows, members=pictures, links=links)
    assert code == 1 and contents(output) == {}
    assert f"39Krelease.parquet, row 1 (id {rows[1]['qid']!r})" in printed and says in printed
    arguments = ["virl39k", "--output", str(output), "--source", str(tmp_path / "source")]
    assert main([*arguments, "--on-error", "skip"]) == 0
    manifest = manifest_of(output)
    assert manifest["left_out"] == {kind.strip(): {"count": 1, "ids": [rows[1]["qid"]]}}
    assert manifest["ids"]["train"] == ["v1", "v3"]


def test_an_archive_that_unpacks_to_too_much_is_refused(convert, monkeypatch):
    """A small archive may hold one member many times over, or members that shrink a thousandfold."""
    monkeypatch.setattr(archive, "MAX_TOTAL", 2 * len(PICTURE))
    members = {"images/a.png": PICTURE}
    code, output, printed = convert(rows=[question(n, image=["images/a.png"]) for n in (1, 2, 3)], members=members)
    assert code == 1 and contents(output) == {} and "images.zip unpacks to more than" in printed


def test_a_member_that_does_not_unpack_is_a_bad_row(tmp_path, capsys):
    source = write_virl39k(tmp_path / "source", [question(1)], {"images/v1-0.png": PICTURE})
    write_geometry3k(source / "geometry3k")
    damaged = (source / "images.zip").read_bytes()
    with zipfile.ZipFile(source / "images.zip") as file:
        crc = file.getinfo("images/v1-0.png").CRC.to_bytes(4, "little")
    (source / "images.zip").write_bytes(damaged.replace(crc, b"\1\2\3\4"))
    assert main(["virl39k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 1
    assert "'images/v1-0.png' cannot be unpacked (Bad CRC-32" in capsys.readouterr().err


def test_link_is_a_link():
    assert stat.S_ISLNK(link("a", "b")[0].external_attr >> 16)


def test_rows_of_the_validation_set_are_dropped_and_counted(convert):
    held_out = problem(11)  # colour (11, 0, 100)
    same = encoded((11, 0, 100), compress_level=0)
    assert same != held_out["images"][0]["bytes"]
    asked = "Find x in figure 11."
    rows = [
        question(1, question=f" {asked}\n\n<image>", image=["images/same.png"]),  # dropped: pixels and words are equal
        question(2, question=f"<image>{asked}", image=["images/other.png"]),
        question(3, question="<image>Find y in figure 11.", image=["images/same.png"]),
        question(4, question=f"<image><image>{asked}", image=["images/same.png"] * 2),
        question(5, question=asked, image=[]),
    ]
    members = {"images/same.png": same, "images/other.png": encoded((11, 0, 101))}
    code, output, printed = convert(rows=rows, members=members)
    assert code == 0
    manifest = manifest_of(output)
    assert manifest["dropped"] == {"in_the_validation_set": {"count": 1, "ids": ["v1"]}}
    assert manifest["ids"]["train"] == ["v2", "v3", "v4", "v5"] and manifest["counts"]["train"] == 4
    assert "not used: 1" in printed


def test_equal_pixels_of_another_shape_are_not_equal(convert):
    held_out = problem(11, images=[{"bytes": encoded("red", (20, 10)), "path": None}])
    rows = [question(1, question=held_out["problem"], image=["images/a.png"])]
    code, output, _ = convert(rows=rows, members={"images/a.png": encoded("red", (10, 20))}, validation=[held_out])
    assert code == 0 and manifest_of(output)["counts"]["train"] == 1


def test_missing_and_broken_files_are_named(convert, tmp_path, capsys):
    source = write_virl39k(tmp_path / "broken", [question(1)])
    write_geometry3k(source / "geometry3k")
    arguments = ["virl39k", "--output", str(tmp_path / "o"), "--source", str(source)]
    (source / "images.zip").write_bytes(b"PK, but not for long")
    assert main(arguments) == 1
    assert "images.zip is not a whole zip archive" in capsys.readouterr().err
    (source / "images.zip").unlink()
    assert main(arguments) == 2
    assert "has no images.zip: it must be laid out as TIGER-Lab/ViRL39K" in capsys.readouterr().err
    (source / "39Krelease.parquet").write_bytes(b"PAR1 is not enough")
    write_virl39k(tmp_path / "more", [question(1)])
    (tmp_path / "more/images.zip").rename(source / "images.zip")
    assert main(arguments) == 1
    assert "39Krelease.parquet is not a readable parquet file" in capsys.readouterr().err
    assert not (tmp_path / "o/manifest.json").exists()


OTHER_TYPES = {
    "bytes": ({"image": [[PICTURE]]}, "image[0]: is bytes b'\\x89PNG"),
    "numbers": ({"image": [[5]]}, "image[0]: is int 5, it must be text"),
    "structs": ({"image": [[{"path": "images/a.png"}]]}, "image[0]: is dict {'path'"),
    "one path": ({"image": ["images/a.png"]}, "image: is str 'images/a.png', it must be a list"),
    "answer": ({"answer": [5]}, "answer: is int 5, it must be text"),
    "answers": ({"answer": [["5"]]}, "answer: is list ['5'], it must be text"),
    "question": ({"question": [5]}, "question: is int 5, it must be text"),
    "chat": ({"question": [[{"role": "user", "content": "<image>q"}]]}, "question: is list [{'role'"),
    "qid": ({"qid": [0.5]}, "qid: is float 0.5, it must be text or an integer"),
    "invisible": ({"answer": ["\\boxed{\u200b}"]}, r"answer: is '\u200b', in which nothing shows"),
}


def other_types(folder, changes) -> list[str]:
    """The command for a source whose table has one row, of other columns."""
    source = write_virl39k(folder / "source", [question(1)], {"images/a.png": PICTURE})
    write_geometry3k(source / "geometry3k")
    columns = {"question": ["<image>q"], "answer": ["5"], "qid": ["a"], "image": [["images/a.png"]]} | changes
    pq.write_table(pa.table(columns), source / "39Krelease.parquet")
    return ["virl39k", "--output", str(folder / "out"), "--source", str(source)]


@pytest.mark.parametrize("kind", OTHER_TYPES)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_column_of_another_type_is_named(tmp_path, capsys, kind, on_error):
    changes, says = OTHER_TYPES[kind]
    assert main([*other_types(tmp_path, changes), "--on-error", on_error]) == 1
    printed = capsys.readouterr().err
    assert contents(tmp_path / "out") == {} and "39Krelease.parquet, row 0 (id " in printed and says in printed


def test_ids_may_be_numbers(tmp_path):
    assert main(other_types(tmp_path, {"qid": [5]})) == 0
    assert manifest_of(tmp_path / "out")["ids"]["train"] == ["5"]
