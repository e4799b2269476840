import subprocess
import sys
import types

import pytest

from verl_vaopd import cli


def run(*argv):
    return subprocess.run([sys.executable, "-m", "verl_vaopd.cli", *argv], capture_output=True, text=True)


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = "import sys; from verl_vaopd.cli import main\n"
    code += "try: main(['--help'])\n"
    code += "finally: print(sorted({'torch', 'ray', 'verl', 'hydra', 'transformers', 'numpy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "[]"
    for command in cli.COMMANDS:
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_has_its_own_help(command):
    result = run(command, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()
    assert command in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["--config-name", "tiny_cpu", "a.b=1", "+c='x y'"],
        ["a=1", "--help"],
    ],
)
def test_arguments_reach_the_command_as_they_are(monkeypatch, arguments):
    seen = []
    fake = types.SimpleNamespace(main=lambda argv: seen.append(argv) or 7)
    monkeypatch.setitem(sys.modules, "verl_vaopd.launch.main", fake)
    assert cli.main(["train", *arguments]) == 7
    assert seen == [arguments]


@pytest.mark.parametrize("argv", [[], ["trian"], ["--trian"]])
def test_no_or_unknown_command_exits_2(argv, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(argv)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "usage: verl-vaopd" in message
    if argv == ["trian"]:
        assert "'trian'" in message and "train" in message.split("choose from")[1]
