"""Where fields lie: dotted paths, indices, every element."""

import pytest

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.own_data.fields import lookup, lookup_if_there, parse_map, parse_path

ROW = {
    "question": "what?",
    "meta": {"answer": {"value": "42"}},
    "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    "images": [{"file": "1.png"}, {"caption": "none here"}, {"file": None}, {"file": "2.png"}],
    "image.path": "dotted.png",
    "image": {"path": "nested.png"},
    "grid": [[1, 2], [3, 4]],
    "nothing": None,
}


@pytest.mark.parametrize(
    "path, value",
    [
        ("question", "what?"),
        ("meta.answer.value", "42"),
        ("conversations[0].value", "q"),
        ("conversations[-1].value", "a"),
        ("images[].file", ["1.png", "2.png"]),  # of those that have it
        ("image.path", "dotted.png"),  # the name as it stands wins
        ("grid[1][0]", 3),
        ("grid[][0]", [1, 3]),
        ("nothing", None),
    ],
)
def test_a_path_leads_to_its_value(path, value):
    assert lookup(ROW, parse_path(path)) == value


@pytest.mark.parametrize(
    "path, says",
    [
        ("questions", "has no 'questions' (there is 'question', 'meta', "),
        ("meta.answer.text", "has no 'text' (there is 'value')"),
        ("conversations[2].value", "has no element 2 (there is a list of 2)"),
        ("conversations.value", "has no 'value' (there is a list of 2)"),
        ("question[]", "has no list (there is str)"),
        ("nothing.more", "has no 'more' (there is null)"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_what_is_there(path, says):
    with pytest.raises(RowError) as error:
        lookup(ROW, parse_path(path))
    assert error.value.reason == "missing_field" and error.value.field == path and says in error.value.problem
    assert lookup_if_there(ROW, parse_path(path)) is None


def test_a_value_that_is_not_utf8_is_its_error():
    broken = RowError("q", "not_utf8", "is not UTF-8", "save it as UTF-8")
    for look in (lookup, lookup_if_there):
        with pytest.raises(RowError, match="not UTF-8"):
            look({"q": broken}, parse_path("q"))


@pytest.mark.parametrize("text", ["", ".a", "[0]", "a..b", "a[", "a[x]", "a]", "a[-]", "a."])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="is no field"):
        parse_path(text)


def test_a_map_names_fields_and_any_number_of_images():
    fields = parse_map("question=q.text, answer=a,image=x,image=y[0]")
    assert (fields.question.text, fields.answer.text) == ("q.text", "a") and fields.id is None
    assert [field.steps for field in fields.images] == [("x",), ("y", 0)]


@pytest.mark.parametrize(
    "text, says",
    [
        ("answer=a", "has no question=FIELD"),
        ("question=q", "has no answer=FIELD"),
        ("question=q,answer=a,picture=p", "a key of question, answer, image, id"),
        ("question=q,answer", "'answer' must be KEY=FIELD"),
        ("question=q,question=r,answer=a", "question is given twice"),
        ("question=q,answer=a[x]", "answer: 'a[x]' is no field"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(text, says):
    with pytest.raises(ValueError) as error:
        parse_map(text)
    assert says in str(error.value)
