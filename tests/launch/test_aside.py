"""What libraries say goes to a file, by whatever way it is written; a person's lines and errors do not."""

import os
import subprocess
import sys

import pytest

from verl_vaopd.launch.aside import STDERR, aside, held_back, shown_if_it_fails


def speak(stdout: str, stderr: str) -> None:
    """As native code and as another process do."""
    os.write(1, stdout.encode())
    subprocess.run([sys.executable, "-c", f"import sys; sys.stderr.write({stderr!r})"], check=True)


PROGRAM = """
import os, subprocess, sys
from verl_vaopd.launch.aside import aside

with aside(sys.argv[1]) as terminal:
    print("python")
    sys.stdout.flush()
    os.write(2, b"native\\n")
    subprocess.run(["echo", "child"], check=True)
    print("python, unflushed")
    print("for a person", file=terminal)
print("after")
"""


def test_words_go_to_the_end_of_the_file_and_the_terminal_is_kept(tmp_path):
    log = tmp_path / "words.log"
    log.write_text("before\n")
    shown = subprocess.run([sys.executable, "-c", PROGRAM, log], capture_output=True, text=True, check=True)
    assert log.read_text().splitlines() == ["before", "python", "native", "child", "python, unflushed"]
    assert (shown.stdout, shown.stderr) == ("for a person\nafter\n", "")


def test_one_stream_alone_can_be_led_away(tmp_path, capfd):
    with aside(str(tmp_path / "words.log"), STDERR):
        speak("out\n", "err\n")
    assert capfd.readouterr() == ("out\n", "") and (tmp_path / "words.log").read_text() == "err\n"


def test_the_streams_are_back_after_an_error(tmp_path, capfd):
    with pytest.raises(RuntimeError), aside(str(tmp_path / "words.log")):
        raise RuntimeError
    speak("out\n", "err\n")
    assert capfd.readouterr() == ("out\n", "err\n")


def test_what_is_held_back_is_shown_when_the_block_fails(capfd):
    with held_back() as words:
        speak("", "a warning\n")
    assert words == ["a warning\n"] and capfd.readouterr().err == ""
    with pytest.raises(KeyError), held_back():
        speak("", "a warning\n")
        raise KeyError
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(ValueError), held_back():  # says itself what is wrong
        speak("", "a warning\n")
        raise ValueError
    assert capfd.readouterr().err == ""


def test_the_end_of_a_log_is_shown_when_the_block_fails(tmp_path, capfd):
    log = tmp_path / "words.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(RuntimeError), shown_if_it_fails(str(log), lines=2):
        raise RuntimeError
    assert capfd.readouterr().err == "line 98\nline 99\n"
