"""Whatever a row holds, it becomes a row that parquet takes and that has one ``<image>`` an image, or its own error."""

import base64
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.data.upstream import encoded
from tests.fuzzing import looked_at
from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.rows import SCHEMA
from verl_vaopd.own_data.fields import parse_map
from verl_vaopd.own_data.rows import OwnSource, _verl_row

SMALL = encoded("red")
URI = f"data:image/png;base64,{base64.b64encode(SMALL).decode()}"
any_text = st.text(st.characters(codec=None), max_size=20)  # surrogates and control characters too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=4,
)
images = st.sampled_from([SMALL, URI, {"bytes": SMALL, "path": None}, {"url": URI}, None])
questions = st.sampled_from(["What?", "<image>What?", "<image> or <image>?", [{"type": "image"}], "<video>?"])
rows = st.fixed_dictionaries(
    {
        "q": questions | anything,
        "a": st.sampled_from(["1", r"\boxed{x}", 2, 0.5]) | anything,
        "image": images | st.lists(images, max_size=3) | anything,
        "more": st.lists(st.fixed_dictionaries({"file": images}) | anything, max_size=2) | any_text,
    }
)
SOURCE = OwnSource("own", None, parse_map("question=q,answer=a,image=image,image=more[].file"), Path("/nowhere"))


@looked_at(300)
@given(rows)
def test_any_row(values):
    try:
        row, _ = _verl_row(SOURCE, values, 0, "own/0")
    except RowError as error:
        assert error.reason and error.problem and error.mend
        return
    assert row["prompt"][0]["content"].count("<image>") == len(row["images"])
    assert {image["bytes"] for image in row["images"]} <= {SMALL}
    assert row["reward_model"]["ground_truth"].strip()
    pa.Table.from_pylist([row], schema=SCHEMA)
