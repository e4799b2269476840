"""Questions, answers and images of any shape, and what is no shape."""

import base64
import os

import pytest

from tests.data.upstream import encoded
from verl_vaopd.data import images
from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.own_data.pictures import image_bytes
from verl_vaopd.own_data.texts import answer_text, question_text, with_placeholders

RED, BLUE = encoded("red"), encoded("blue")
TEXT = base64.b64encode(RED).decode()
URI = f"data:image/png;base64,{TEXT}"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "red.png").write_bytes(RED)
    (tmp_path / "sub/a b.png").write_bytes(BLUE)
    return tmp_path


@pytest.mark.parametrize(
    "value, wanted",
    [
        (None, []),
        ("", []),
        ([], []),
        (RED, [RED]),
        ("red.png", [RED]),
        ("./sub/../red.png", [RED]),
        ("sub/a b.png", [BLUE]),
        (TEXT, [RED]),
        (TEXT.rstrip("="), [RED]),
        (TEXT[:60] + "\n" + TEXT[60:], [RED]),
        (URI, [RED]),
        ({"bytes": RED, "path": "nowhere.png"}, [RED]),
        ({"bytes": None, "path": "red.png"}, [RED]),
        ({"bytes": TEXT}, [RED]),  # as JSON has to hold bytes
        ({"url": URI}, [RED]),
        ({"image_url": {"url": URI}}, [RED]),
        (["red.png", BLUE, {"bytes": RED, "path": None}], [RED, BLUE, RED]),
    ],
)
def test_images_of_any_shape_are_their_bytes(root, value, wanted):
    assert image_bytes(value, "image", root) == wanted


def test_paths_may_be_absolute_or_addresses_of_files(root):
    assert image_bytes(str(root / "red.png"), "image", root) == [RED]
    assert image_bytes(f"file://{root}/sub/a%20b.png", "image", root) == [BLUE]


@pytest.mark.parametrize(
    "value, reason, says",
    [
        ("none.png", "missing_image", "none.png cannot be read (No such file or directory)"),
        ("sub", "missing_image", "sub is no file"),
        ("pipe", "missing_image", "pipe is no file"),  # and is not waited for
        ("red.png/x", "missing_image", "cannot be read"),
        ("a\0b", "missing_image", "is no path"),
        ("../red.png", "outside_root", "leads out of"),
        ("sub/../../red.png", "outside_root", "leads out of"),
        ("/etc/hostname", "outside_root", "leads out of"),
        ("file:///etc/hostname", "outside_root", "leads out of"),
        ("https://example.org/a.png", "missing_image", "is an address (https), and nothing is fetched"),
        ("data:image/png,abc", "unreadable_image", "is no data URI in base64"),
        ("data:image/png;base64,?", "unreadable_image", "is no base64"),
        ({"bytes": None, "path": None}, "missing_image", "holds no image (it has bytes, path)"),
        ({"caption": "x"}, "missing_image", "holds no image (it has caption)"),
        (7, "missing_image", "is int and no image"),
        ([RED, None], "missing_image", "is null and no image"),
        (["red.png", ""], "missing_image", "is an empty text and no image"),
        ([[RED]], "missing_image", "is list and no image"),
        ("big.png", "oversized_image", "over the limit of"),
        ("long-" * 1000, "missing_image", "... cannot be read (File name too long)"),
    ],
)
def test_what_is_no_image_is_named(root, value, reason, says):
    os.mkfifo(root / "pipe")
    with open(root / "big.png", "wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(RowError) as error:
        image_bytes(value, "image", root)
    assert error.value.reason == reason and says in error.value.problem and error.value.mend
    assert "is no path" not in error.value.problem or value == "a\0b"
    assert error.value.field.startswith("image")


def test_too_much_base64_is_not_decoded(root, monkeypatch):
    monkeypatch.setattr("verl_vaopd.own_data.pictures.MAX_BYTES", 10)
    with pytest.raises(RowError, match="over the limit of 10"):
        image_bytes(URI, "image", root)


def test_an_image_of_a_list_is_named_by_its_place(root):
    with pytest.raises(RowError) as error:
        image_bytes(["red.png", "none.png"], "pictures", root)
    assert error.value.field == "pictures[1]"


@pytest.mark.parametrize(
    "text, count, wanted",
    [
        ("What?", 0, "What?"),
        ("What?", 1, "<image>What?"),
        ("What?", 3, "<image><image><image>What?"),
        ("<image>What?", 1, "<image>What?"),
        ("Is <image> like <image>?", 2, "Is <image> like <image>?"),
        ("See <image>: what?", 2, "See <image><image>: what?"),
        ("<image>What?", 0, "<image>What?"),  # which check_question then refuses, as the next ones
        ("<image><image>What?", 1, "<image><image>What?"),
        ("<image><image>What?", 3, "<image><image>What?"),
    ],
)
def test_placeholders_are_put_right(text, count, wanted):
    assert with_placeholders(text, count) == wanted


def test_a_question_may_be_parts_of_a_chat():
    parts = [{"type": "image"}, {"type": "text", "text": "Is it "}, {"type": "image_url", "image_url": None}]
    assert question_text([*parts, {"type": "text", "text": "?"}], "q") == "<image>Is it <image>?"
    assert question_text("as it is", "q") == "as it is" and question_text(None, "q") == ""


@pytest.mark.parametrize(
    "value", [7, {"text": "x"}, [{"type": "video"}], ["x"], [{"type": "text", "text": 1}], "\ud800"]
)
def test_what_is_no_question_is_refused(value):
    with pytest.raises(RowError):
        question_text(value, "q")


def test_answers_are_text_or_numbers():
    assert [answer_text(value, "a") for value in ("x", 42, 0.5, None, float("nan"))] == ["x", "42", "0.5", "", ""]
    assert answer_text([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}], "a") == "42"
    for value in (True, [], ["x"], [{"type": "image"}], {"x": 1}, b"x", "\ud800"):
        with pytest.raises(RowError):
            answer_text(value, "a")
