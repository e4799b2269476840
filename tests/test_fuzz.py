"""Whatever a row or a setting holds: it is accepted and then can be used, or refused by the project's own error.

``VAOPD_FUZZ=5000`` looks at that many examples of each property instead of a few.
"""

import copy
import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from tests.checks.odd_images import NOT_RGB, ODD_IMAGES
from tests.checks.test_rows import check_row
from tests.fuzzing import looked_at
from verl_vaopd.algorithm.degradations import DEGRADATIONS
from verl_vaopd.checks.host_values import HOST_VALUES
from verl_vaopd.checks.rows import RowCheck
from verl_vaopd.checks.start import check_settings
from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.settings.compose import compose
from verl_vaopd.tiny.processor import make_processor
from verl_vaopd.tiny.tokenizer import SPECIAL_TOKENS

REQUIRED = [
    *("vaopd.teacher.path=teacher", "actor_rollout_ref.model.path=student"),
    *("data.train_files=train.parquet", "data.val_files=val.parquet"),
]


any_text = st.text(st.characters(codec=None), max_size=20)  # surrogates and control characters too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def drawn_images(draw) -> bytes:
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr", "LAB", "HSV"]))
    kind = draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]))
    size = draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(0, 9))
    file = io.BytesIO()
    try:
        Image.new(mode, size, draw(st.integers(0, 255))).save(file, kind, exif=exif)
    except (OSError, TypeError, ValueError):  # a format that has no such mode
        return b""
    data = bytearray(file.getvalue())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=3)):
        data[place] = byte
    return bytes(data[: draw(st.sampled_from([len(data)] * 4 + [len(data) // 2]))])


known_images = st.sampled_from([*(data for data, *_ in ODD_IMAGES.values()), *NOT_RGB.values()])
images = st.fixed_dictionaries({"bytes": known_images | drawn_images() | st.none() | st.binary(max_size=40)})
pieces = st.sampled_from(["<image>", "<image>What is 3?", "<video>", "<|placeholder|>", "long " * 90, *SPECIAL_TOKENS])
contents = st.lists(pieces | any_text, max_size=4).map("".join)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]), "content": contents}
)


@st.composite
def rows(draw) -> dict:
    """Near a valid one: as many images as placeholders more often than not, and one field of anything at times."""
    row = make_row("train", 0)
    if draw(st.booleans()):
        row["prompt"] = draw(st.lists(messages, min_size=1, max_size=3))
    count = sum(message["content"].count("<image>") for message in row["prompt"])
    few = st.lists(images, min_size=count, max_size=count) if draw(st.booleans()) else st.lists(images, max_size=3)
    row["images"] = draw(few)
    if draw(st.integers(0, 3)) == 0:
        field = draw(st.sampled_from(["prompt", "images", "reward_model", "extra_info", "data_source"]))
        row[field] = draw(anything | st.lists(anything, max_size=2) | st.lists(messages | anything, max_size=2))
    return row


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.mark.parametrize("degradation", DEGRADATIONS)
@looked_at(25)
@given(row=rows())
def test_a_row_is_usable_or_refused(processor, degradation, row):
    data = SimpleNamespace(
        prompt_key="prompt",
        image_key="images",
        max_prompt_length=700,
        mm_processor_kwargs={"min_pixels": 1024, "max_pixels": 16384},
        apply_chat_template_kwargs={},
    )
    degrade = lambda image: DEGRADATIONS[degradation](image, ratio=0.1)  # noqa: E731
    try:
        tokens = check_row(row, processor, data, degrade, max_images=2)
    except RowError as error:
        assert error.field and error.problem and error.mend
        return
    # As training: verl's ids of the prompt, of which none is cut and none that is special was typed.
    check = RowCheck(processor, data, degrade, max_images=2, model_type="qwen3_vl")
    chat = check.messages._build_messages({**row, "prompt": [dict(m) for m in row["prompt"]]}, key="prompt")
    pictures = [p["image"] for m in chat if isinstance(m["content"], list) for p in m["content"] if "image" in p]
    ids = check.builder.build_initial_tokens(chat, images=pictures)
    assert len(ids) == tokens < data.max_prompt_length
    special = [token for token in processor.tokenizer.convert_ids_to_tokens(ids) if token in SPECIAL_TOKENS]
    turns = sum(token in ("<|im_start|>", "<|im_end|>") for token in special)
    assert turns == 2 * len(row["prompt"]) + 1  # and the answer's start
    assert special.count("<|vision_start|>") == special.count("<|vision_end|>") == len(row["images"])


SETTINGS = [f"{section}.{key}" for section, keys in HOST_VALUES.items() for key in keys]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 20) | st.integers(),
    st.floats(),
    st.text("abc 0.-", max_size=6),
    st.lists(st.floats() | st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["min_pixels", "image", "a"]), st.integers(-1, 5000), max_size=2),
)


@pytest.fixture(scope="module")
def plain():
    config = compose("tiny_cpu", REQUIRED)
    check_settings(config)
    return config


@looked_at(60)
@given(data=st.data())
def test_settings_are_usable_or_refused(plain, data):
    config = copy.deepcopy(plain)
    own = [f"vaopd.{key}" for key in config.vaopd]
    own += [f"vaopd.{part}.{key}" for part in ("teacher", "papo", "gkd", "mass") for key in config.vaopd[part]]
    changed = data.draw(st.dictionaries(st.sampled_from([name for name in own if "_target_" not in name] + SETTINGS),
                                        values, min_size=1, max_size=2))  # fmt: skip
    for name, value in changed.items():
        OmegaConf.update(config, name, value, merge=False, force_add=True)
    try:
        method = check_settings(config)
    except ValueError as error:
        assert any(name.rpartition(".")[2] in str(error) for name in changed), (changed, error)
        return
    assert method.settings.teacher.path and config.trainer.nnodes >= 1
    assert 0 < config.actor_rollout_ref.actor.optim.lr < float("inf")
