"""A folder is made once, whole or not at all."""

import json
import subprocess
import sys

import pytest

from verl_vaopd.tiny.__main__ import main
from verl_vaopd.tiny.cache import MANIFEST, build_aside, read_manifest


def test_second_call_makes_nothing(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "tiny"
    assert main(["--output", str(folder), "--random"]) == 0
    assert {path.name for path in folder.iterdir()} == {"teacher", "student", "data", MANIFEST}
    assert read_manifest(folder)["fingerprint"]["seed"] == 0
    monkeypatch.setattr("verl_vaopd.tiny.__main__.build_aside", lambda *args: pytest.fail("made again"))
    assert main(["--output", str(folder), "--random"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize("change", [["--seed", "1"], ["--force"], []])
def test_other_settings_or_a_missing_file_make_it_anew(tmp_path, monkeypatch, change):
    folder = tmp_path / "tiny"
    assert main(["--output", str(folder), "--random"]) == 0
    if not change:
        (folder / "student" / "model.safetensors").unlink()
    made = []
    monkeypatch.setattr("verl_vaopd.tiny.__main__.build_aside", lambda *args: made.append(args) or {"measured": {}})
    assert main(["--output", str(folder), "--random", *change]) == 0
    assert len(made) == 1


def test_failure_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    folder = tmp_path / "tiny"
    build_aside(folder, {"seed": 1}, lambda path: {})

    def fail(path):
        (path / "half").write_text("")
        raise RuntimeError("the teacher must read")

    with pytest.raises(RuntimeError, match="the teacher must read"):
        build_aside(folder, {"seed": 2}, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert '"seed": 1' in (folder / MANIFEST).read_text()


def test_error_is_one_line_and_an_exit_code(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["--output", str(tmp_path), "--random"]) == 1
    assert "not replaced" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


TRAINED = {"fingerprint": {"seed": 0, "trained": True, "code": "earlier"}, "measured": {}}


@pytest.mark.parametrize(
    "held, options, says",
    [
        (
            {},
            ["--task", "perimeter"],
            "trained models of --task figures, not replaced by trained models of --task peri",
        ),
        ({}, ["--task", "dilution", "--force"], "trained models of --task figures, not replaced by trained models of"),
        ({}, ["--random"], "trained models of --task figures, not replaced by untrained models of --task figures"),
        ({"task": "perimeter", "trained": False}, [], "untrained models of --task perimeter, not replaced by trained"),
    ],
)
def test_models_of_another_task_are_not_replaced(tmp_path, capsys, monkeypatch, held, options, says):
    monkeypatch.setattr("verl_vaopd.tiny.__main__.build_aside", lambda *args: pytest.fail("replaced"))
    manifest = {**TRAINED, "fingerprint": {**TRAINED["fingerprint"], **held}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert main(["--output", str(tmp_path), *options]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path} holds {says}" in said and "choose another --output" in said and "or remove it" in said


@pytest.mark.parametrize("held", [{}, {"trained": False}])
def test_models_of_the_same_task_whose_code_changed_are_made_anew(tmp_path, monkeypatch, held):
    made = []
    monkeypatch.setattr("verl_vaopd.tiny.__main__.build_aside", lambda *args: made.append(args) or {"measured": {}})
    manifest = {**TRAINED, "fingerprint": {**TRAINED["fingerprint"], **held}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert main(["--output", str(tmp_path)]) == 0 and len(made) == 1


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"fingerprint": {', "is damaged"),
        ("", "is damaged"),
        ('{"dataset": "geometry3k"}', "is no manifest of tiny models"),
        ("[]", "is no manifest of tiny models"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, capsys, text, says):
    (tmp_path / MANIFEST).write_text(text)
    assert main(["--output", str(tmp_path), "--random"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / MANIFEST} {says}" in said and f"remove {tmp_path}" in said
    assert (tmp_path / MANIFEST).read_text() == text


def test_finding_models_made_imports_no_torch(tmp_path):
    folder = tmp_path / "tiny"
    assert main(["--output", str(folder), "--random"]) == 0
    code = (
        "import sys; from verl_vaopd.tiny.__main__ import main; "
        f"assert main(['--output', {str(folder)!r}, '--random']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
