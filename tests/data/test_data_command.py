"""The command as a whole: a finished folder is verified and left alone, a damaged or interrupted one is made whole."""

import fcntl
import json
from pathlib import Path

import huggingface_hub.constants
import pytest

from tests.data.upstream import contents, in_hub_cache, problem, rows_in, write_geometry3k
from verl_vaopd.data import manifest as manifests
from verl_vaopd.data import sources
from verl_vaopd.data.__main__ import main
from verl_vaopd.data.rows import RowWriter

COMMIT, NEXT_COMMIT = "a" * 40, "b" * 40


@pytest.fixture
def source(tmp_path):
    return write_geometry3k(tmp_path / "source")


@pytest.fixture
def made(tmp_path, source):
    """The arguments of a run that is done."""
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]
    assert main(arguments) == 0
    return arguments


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def whole(folder: Path) -> None:
    """Geometry3K at upstream's size: 2,101, 300 and 601 rows with the same small image."""
    small = problem(1)["images"]
    sizes = {"train": 2101, "validation": 300, "test": 601}
    splits = {s: [problem(n, id=f"{s}{n}", images=small) for n in range(count)] for s, count in sizes.items()}
    write_geometry3k(folder, **splits)


def test_second_run_changes_nothing(made, tmp_path, source, capsys):
    before = contents(tmp_path / "out")
    assert set(before) == {"train.parquet", "validation.parquet", "test.parquet", "manifest.json"}
    source.rename(tmp_path / "gone")  # nor does it read the source
    capsys.readouterr()
    assert main(made) == 0
    assert contents(tmp_path / "out") == before
    printed = capsys.readouterr().out
    assert "complete, checksums verified; rows: 3 train, 2 validation, 1 test" in printed
    assert "2,101 are expected" in printed  # that it is a sample is said again


def test_the_manifest_has_the_files_checksums(made, tmp_path):
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    for name, recorded in manifest["files"].items():
        path = tmp_path / "out" / name
        assert recorded == {"bytes": path.stat().st_size, "sha256": sources.sha256(path)}
    assert sources.sha256(tmp_path / "source/data/test-00000-of-00001.parquet") in json.dumps(manifest["sources"])


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage, says",
    [
        (flip_a_byte, "has another SHA-256"),
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(b"short"), "has 5 bytes"),
    ],
)
def test_a_damaged_file_is_named_and_made_anew(made, tmp_path, capsys, damage, says):
    before = contents(tmp_path / "out")
    damage(tmp_path / "out/train.parquet")
    assert main(made) == 0
    after = contents(tmp_path / "out")
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}
    assert f"out/train.parquet {says}" in capsys.readouterr().out


def test_a_damaged_folder_whose_source_is_gone_says_so(made, tmp_path, source, capsys):
    (tmp_path / "out/test.parquet").unlink()
    source.rename(tmp_path / "gone")
    before = contents(tmp_path / "out")
    assert main(made) == 2
    assert "is no folder" in capsys.readouterr().err and contents(tmp_path / "out") == before


def test_other_settings_are_refused(made, tmp_path, offline_hub, capsys):
    before = contents(tmp_path / "out")
    other = write_geometry3k(tmp_path / "other")
    output = ["--output", str(tmp_path / "out")]
    for arguments, says in (
        (["geometry3k", *output, "--source", str(other)], "was made from"),
        (["geometry3k", *output, "--revision", "v2"], "not v2"),
        (["geometry3k", *output], "is not the whole data set"),  # what is there is a sample
        (["virl39k", *output, "--source", str(other)], "holds other data (geometry3k"),
    ):
        assert main(arguments) == 2
        assert says in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_a_whole_local_copy_need_not_be_named_again(tmp_path, offline_hub):
    whole(tmp_path / "whole")
    arguments = ["geometry3k", "--output", str(tmp_path / "out")]
    assert main([*arguments, "--source", str(tmp_path / "whole")]) == 0
    assert main(arguments) == 0


def test_rows_left_out_once_do_not_stop_later_runs(tmp_path, capsys):
    source = write_geometry3k(tmp_path / "source", train=[problem(1), problem(2, answer="")])
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]
    assert main(arguments) == 1
    assert main([*arguments, "--on-error", "skip"]) == 0
    assert main(arguments) == 0
    assert "not used: 1" in capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "out/train.parquet").unlink()
    assert main(arguments) == 0  # made anew as before, with the row left out
    assert len(rows_in(tmp_path / "out/train.parquet")) == 1


def test_ctrl_c_leaves_nothing_half_written(tmp_path, source, monkeypatch):
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]
    write = RowWriter.write

    def write_two(self, row):
        if len(self.ids) == 2:
            assert (tmp_path / "out/train.parquet.partial").exists()
            raise KeyboardInterrupt
        write(self, row)

    monkeypatch.setattr(RowWriter, "write", write_two)
    assert main(arguments) == 130
    assert contents(tmp_path / "out") == {}
    monkeypatch.undo()
    assert main(arguments) == 0


def test_what_a_killed_run_left_is_cleared(tmp_path, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train.parquet.partial").write_bytes(b"half")
    (tmp_path / "out/other.parquet.partial").write_bytes(b"half")
    assert main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 0
    assert set(contents(tmp_path / "out")) == {"train.parquet", "validation.parquet", "test.parquet", "manifest.json"}


@pytest.mark.parametrize("renames", range(4))
def test_a_run_cut_off_between_two_renames_is_made_whole(tmp_path, source, monkeypatch, renames):
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]
    rename, done = Path.rename, []

    def rename_some(self, target):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_some)
    assert main(arguments) == 130
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.undo()
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert set(contents(tmp_path / "out")) == {"train.parquet", "validation.parquet", "test.parquet", "manifest.json"}


def test_files_of_others_are_not_replaced(tmp_path, source, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/train.parquet").write_bytes(b"mine")
    assert main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 2
    assert "holds train.parquet and no manifest.json" in capsys.readouterr().err
    assert set(contents(tmp_path / "out")) == {"train.parquet"}


def test_two_writers_do_not_meet(tmp_path, source, capsys):
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 1
    assert "another process is writing" in capsys.readouterr().err


def test_the_hubs_files_carry_their_commit(tmp_path, offline_hub, capsys):
    in_hub_cache(offline_hub, "hiyouga/geometry3k", COMMIT, whole)
    arguments = ["geometry3k", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["counts"] == {"train": 2101, "validation": 200, "test": 601} and manifest["notes"] == []
    record = manifest["sources"]["hiyouga/geometry3k"]
    assert record["revision"] == COMMIT and record["requested_revision"] == "main" and record["folder"] is None
    # main moves on; a damaged folder is made anew from the commit it was made from
    in_hub_cache(offline_hub, "hiyouga/geometry3k", NEXT_COMMIT, write_geometry3k)
    before = (tmp_path / "out/test.parquet").read_bytes()
    (tmp_path / "out/test.parquet").unlink()
    assert main(arguments) == 0
    assert (tmp_path / "out/test.parquet").read_bytes() == before
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest
    assert main([*arguments, "--revision", COMMIT]) == 0
    assert main([*arguments, "--revision", NEXT_COMMIT]) == 2


def test_other_counts_on_the_hub_are_an_error(tmp_path, offline_hub, capsys):
    in_hub_cache(offline_hub, "hiyouga/geometry3k", COMMIT, write_geometry3k)
    assert main(["geometry3k", "--output", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "has 3 train rows, 2,101 are expected" in message and COMMIT in message and "--revision" in message
    assert contents(tmp_path / "out") == {}


def test_no_way_to_the_hub(tmp_path, offline_hub, capsys):
    assert main(["geometry3k", "--output", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "cannot download hiyouga/geometry3k" in message and "--source" in message


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "dataset"),
        (["geometry3k"], "--output"),
        (["coco", "--output", "o"], "coco"),
        (["geometry3k", "--output", "o", "--on-error", "ignore"], "ignore"),
        (["geometry3k", "--output", "o", "--source", "s", "--revision", "v"], "--revision is the hub's"),
        (["geometry3k", "--output", "o", "--geometry3k-source", "s"], "belongs to virl39k"),
    ],
)
def test_bad_usage_exits_2(arguments, says, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2 and says in capsys.readouterr().err


def test_a_source_that_is_not_there_or_not_laid_out_exits_2(tmp_path, capsys):
    arguments = ["geometry3k", "--output", str(tmp_path / "out"), "--source"]
    assert main([*arguments, str(tmp_path / "nowhere")]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([*arguments, str(tmp_path / "empty")]) == 2
    assert "has no data/*-*.parquet" in capsys.readouterr().err


def test_a_missing_column_is_named(tmp_path, source, capsys):
    import pyarrow.parquet as pq

    path = source / "data/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop(["answer"]), path)
    assert main(["geometry3k", "--output", str(tmp_path / "out"), "--source", str(source)]) == 2
    assert "no column 'answer'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, code, says",
    [
        ("{", 1, "manifest.json is not readable JSON"),
        ("\0" * 9, 1, "manifest.json is not readable JSON"),
        ("[" * 100_000, 1, "manifest.json is not readable JSON"),
        ("[]", 1, "manifest.json holds no manifest but list []"),
        ("null", 1, "manifest.json holds no manifest but NoneType"),
        ("{}", 2, "holds other data (None, format None"),
        ('{"dataset": "geometry3k", "format": 1}', 1, "manifest.json is damaged: it has no whole 'sources'"),
    ],
)
def test_a_damaged_manifest_is_named(made, tmp_path, capsys, text, code, says):
    (tmp_path / "out" / manifests.MANIFEST).write_text(text)
    assert main(made) == code
    assert says in capsys.readouterr().err
