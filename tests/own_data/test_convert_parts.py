"""Validation rows by seed, sources by weight, data sets of the hub."""

import json

import huggingface_hub.constants
import pytest

from tests.data.upstream import contents, in_hub_cache, problem, rows_in, write_geometry3k
from tests.own_data.test_convert import convert, ids, line, manifest_of, pictures, write_lines  # noqa: F401


def test_a_validation_part_is_drawn_by_the_seed(convert, tmp_path):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(20)])
    drawn = {}
    for seed, output in ((0, "out"), (0, "same"), (1, "other")):
        assert convert("--from", "a.jsonl", "--validation", 5, "--seed", seed, output=output)[0] == 0
        drawn[output] = ids(tmp_path, "validation", output)
        assert len(drawn[output]) == 5 and drawn[output] == sorted(drawn[output], key=lambda name: int(name[2:]))
        assert sorted(ids(tmp_path, "train", output) + drawn[output]) == sorted(f"a/{n}" for n in range(20))
    assert drawn["out"] == drawn["same"] != drawn["other"]
    for name in ("train", "validation"):
        first, second = ((tmp_path / output / f"{name}.parquet").read_bytes() for output in ("out", "same"))
        assert first == second
    held_out = rows_in(tmp_path / "out/validation.parquet")
    assert {row["extra_info"]["split"] for row in held_out} == {"validation"}
    assert [row["images"][0]["bytes"] for row in held_out] == [pictures(int(name[2:])) for name in drawn["out"]]


def test_a_row_more_or_a_bad_one_changes_no_other_choice(convert, tmp_path):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(20)])
    assert convert("--from", "a.jsonl", "--validation", 5)[0] == 0
    drawn = ids(tmp_path, "validation")
    bad = int(drawn[2][2:])
    write_lines(tmp_path / "a.jsonl", [line(n, **({"a": ""} if n == bad else {})) for n in range(20)])
    assert convert("--from", "a.jsonl", "--validation", 5, "--on-error", "skip", output="less")[0] == 0
    now = ids(tmp_path, "validation", "less")
    assert len(now) == 5 and set(drawn) - set(now) == {drawn[2]}


def test_training_rows_that_are_validation_rows_are_dropped(convert, tmp_path):  # noqa: F811
    rows = [line(0), line(1), line(2, q="<image>  What is in 0?", image="pics/0.png"), line(3, image="pics/0.png")]
    write_lines(tmp_path / "a.jsonl", rows)
    for seed in range(20):
        assert convert("--from", "a.jsonl", "--validation", 1, "--seed", seed, output=f"out{seed}")[0] == 0
        if ids(tmp_path, "validation", f"out{seed}") == ["a/0"]:
            break
    assert ids(tmp_path, "train", f"out{seed}") == ["a/1", "a/3"]  # another question about the picture stays
    manifest = json.loads((tmp_path / f"out{seed}/manifest.json").read_text())
    assert manifest["dropped"] == {"in_the_validation_set": {"count": 1, "ids": ["a/2"]}}


@pytest.mark.parametrize("rows", [3, 4])
def test_a_validation_part_leaves_rows_to_train_on(convert, tmp_path, rows):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(3)])
    code, printed = convert("--from", "a.jsonl", "--validation", rows)
    assert code == 1 and f"--validation {rows} leaves nothing to train on: there are 3 good rows" in printed
    assert contents(tmp_path / "out") == {}


def test_weights_say_how_often_a_row_comes(convert, tmp_path):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(0), line(1)])
    write_lines(tmp_path / "b.jsonl", [line(n) for n in range(10, 18)])
    code, printed = convert(
        "--from", "a.jsonl", "--weight", 2.5, "--from", "b.jsonl", "--weight", 0.25, "--from", "a.jsonl"
    )
    assert code == 0, printed
    made = ids(tmp_path)
    # a: twice, and one of two rows (0.5 x 2) once more; b: two of eight (0.25 x 8); a again, by another name: once
    assert len(made) == len(set(made)) == 2 * 2 + 1 + 2 + 2
    assert [name for name in made if name.startswith("a-2/")] == ["a-2/0", "a-2/1"]
    assert made[:2] == ["a/0", "a/1"] and made[6:8] == ["a/0#2", "a/1#2"] and made[8] in ("a/0#3", "a/1#3")
    assert len([name for name in made if name.startswith("b/")]) == 2
    assert {name: record["weight"] for name, record in manifest_of(tmp_path)["sources"].items()} == {
        "a": 2.5, "b": 0.25, "a-2": 1.0,
    }  # fmt: skip
    rows = rows_in(tmp_path / "out/train.parquet")
    assert rows[0] | {"extra_info": 0} == rows[6] | {"extra_info": 0}


def test_validation_rows_come_once_and_not_in_training(convert, tmp_path):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(n) for n in range(6)])
    write_lines(tmp_path / "b.jsonl", [line(n) for n in range(10, 16)])
    asked = ["--from", "a.jsonl", "--weight", 3, "--from", "b.jsonl", "--validation", 4]
    assert convert(*asked)[0] == 0
    held_out, made = ids(tmp_path, "validation"), ids(tmp_path)
    assert len(held_out) == len(set(held_out)) == 4 and not set(held_out) & {name.split("#")[0] for name in made}
    from_a = sum(name.startswith("a/") for name in held_out)
    assert len(made) == 3 * (6 - from_a) + (6 - (4 - from_a))


def test_sources_may_have_maps_and_roots_of_their_own(convert, tmp_path):  # noqa: F811
    write_lines(tmp_path / "a.jsonl", [line(0, image="0.png")])
    (tmp_path / "b.jsonl").write_text(json.dumps({"ask": "What?", "is": 5, "file": "pics/0.png"}))
    code, printed = convert(
        *("--from", "a.jsonl", "--map", "question=q,answer=a,image=image", "--image-root", "pics"),
        *("--from", "b.jsonl", "--map", "question=ask,answer=is,image=file", "--image-root", "."),
        fields=None,
    )
    assert code == 0, printed
    rows = rows_in(tmp_path / "out/train.parquet")
    assert [(row["data_source"], row["extra_info"]["id"]) for row in rows] == [("a", "a/0"), ("b", "b/0")]


HUB_MAP = "question=problem,answer=answer,image=images,id=id"


def test_a_data_set_of_the_hub(convert, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "a" * 40
    in_hub_cache(tmp_path / "cache", "someone/figures", commit, write_geometry3k)
    code, printed = convert("--from", "hub:someone/figures", fields=HUB_MAP)
    assert code == 0, printed
    assert ids(tmp_path) == ["figures/g1", "figures/g2", "figures/g3"]
    record = manifest_of(tmp_path)["sources"]["figures"]
    assert record["revision"] == commit and record["requested_revision"] == "main"
    assert list(record["files"]) == ["data/train-00000-of-00001.parquet"]
    in_hub_cache(tmp_path / "cache", "someone/figures", "b" * 40, lambda folder: write_geometry3k(folder, [problem(9)]))
    before = (tmp_path / "out/train.parquet").read_bytes()
    (tmp_path / "out/train.parquet").unlink()
    assert convert("--from", "hub:someone/figures", fields=HUB_MAP)[0] == 0  # of the commit it was made from
    assert (tmp_path / "out/train.parquet").read_bytes() == before
    code, printed = convert("--from", "hub:someone/figures", "--revision", "b" * 40, fields=HUB_MAP)
    assert code == 2 and f"from revision {commit}, not {'b' * 40}" in printed
    assert convert("--from", "hub:someone/figures", "--revision", "b" * 40, fields=HUB_MAP, output="new")[0] == 0
    assert ids(tmp_path, output="new") == ["figures/g9"]
    code, printed = convert("--from", "hub:someone/other", fields=HUB_MAP, output="none")
    assert code == 1 and "cannot download someone/other" in printed


def test_a_local_copy_and_its_splits(convert, tmp_path):  # noqa: F811
    write_geometry3k(tmp_path / "copy")
    code, printed = convert("--from", "hub:./copy", "--from", "hub:./copy:validation", fields=HUB_MAP)
    assert code == 0, printed
    assert ids(tmp_path) == ["copy/g1", "copy/g2", "copy/g3", "copy-validation/g11", "copy-validation/g12"]
    code, printed = convert("--from", "hub:./copy:dev", fields=HUB_MAP, output="none")
    assert code == 2 and "./copy has no dev.parquet" in printed
    write_lines(tmp_path / "copy/train.jsonl", [line(0)])
    code, printed = convert("--from", "hub:./copy", fields=HUB_MAP, output="none")
    assert code == 2 and ". (.jsonl), data (.parquet)" in printed and "hub:./copy:FOLDER/train" in printed
    write_geometry3k(tmp_path / "copy/old")
    assert convert("--from", "hub:./copy:data/train", fields=HUB_MAP, output="named")[0] == 0
    assert ids(tmp_path, output="named") == [f"copy-data-train/g{n}" for n in (1, 2, 3)]  # not old/data/train
