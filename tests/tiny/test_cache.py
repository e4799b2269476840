"""A folder is made once, whole or not at all."""

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


def test_finding_models_made_imports_no_torch(tmp_path):
    folder = tmp_path / "tiny"
    assert main(["--output", str(folder), "--random"]) == 0
    code = (
        "import sys; from verl_vaopd.tiny.__main__ import main; "
        f"assert main(['--output', {str(folder)!r}, '--random']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
