"""Teacher, student and data that do not belong together are refused by name, before any worker exists."""

import json
import shutil
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_vaopd.algorithm import pixelate
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.tiny.models import random_models
from verl_vaopd.trainer.preflight import check_models, check_row, check_rows

DATA = SimpleNamespace(prompt_key="prompt", image_key="images", max_prompt_length=256, mm_processor_kwargs=None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("models"))


def changed(models, tmp_path, file: str, change) -> str:
    """A copy of the teacher with one of its JSON files changed."""
    copy = tmp_path / "changed"
    shutil.copytree(models[1], copy)
    content = json.loads((copy / file).read_text())
    change(content)
    (copy / file).write_text(json.dumps(content))
    return str(copy)


def test_models_that_fit_pass(models):
    assert check_models(str(models[0]), str(models[1])).tokenizer.eos_token == "<|im_end|>"


@pytest.mark.parametrize("path", ["/no/such/folder", "no-such-owner/no-such-model"])
def test_model_that_is_nowhere_is_named(models, path):
    with pytest.raises(ValueError, match=f"{path} is no folder here"):
        check_models(str(models[0]), path)


def swap_two_ids(tokenizer):
    vocab = tokenizer["model"]["vocab"]
    first, second = list(vocab)[:2]
    vocab[first], vocab[second] = vocab[second], vocab[first]


@pytest.mark.parametrize(
    "file, change, says",
    [
        ("tokenizer.json", swap_two_ids, "tokenizer ids"),
        ("config.json", lambda c: c.update(image_token_id=c["image_token_id"] + 1), "image_token_id"),
        ("processor_config.json", lambda c: c["image_processor"].update(image_mean=[0.5] * 3), "image processor"),
        ("config.json", lambda c: c.update(model_type="qwen2_vl"), "qwen2_vl"),
    ],
)
def test_models_that_differ_are_refused(models, tmp_path, file, change, says):
    with pytest.raises(ValueError, match=says):
        check_models(str(models[0]), changed(models, tmp_path, file, change))


def test_other_chat_template_is_refused(models, tmp_path):
    copy = tmp_path / "changed"
    shutil.copytree(models[1], copy)
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(ValueError, match="chat template"):
        check_models(str(models[0]), str(copy))


def write(tmp_path, rows):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def rows_with(change, index=1):
    rows = [make_row("train", i) for i in range(3)]
    change(rows[index])
    return rows


def test_good_rows_pass(models, tmp_path):
    processor = check_models(*map(str, models))
    check_rows(write(tmp_path, [make_row("train", i) for i in range(3)]), "data.train_files", processor, DATA, pixelate)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda r: r.update(images=[]), "1 <image> placeholders for 0 images"),
        (lambda r: r["images"][0].update(bytes=b"not a picture"), "cannot identify image"),
        (lambda r: r["prompt"][0].update(content="<image>" + "long " * 400), "data.max_prompt_length is 256"),
    ],
)
def test_bad_rows_are_named(models, tmp_path, change, says):
    processor = check_models(*map(str, models))
    path = write(tmp_path, rows_with(change))
    with pytest.raises(ValueError, match=f"(?s)data.train_files.*row 1.*{says}"):
        check_rows([path], "data.train_files", processor, DATA, pixelate)


def test_missing_file_and_column_are_named(models, tmp_path):
    processor = check_models(*map(str, models))
    with pytest.raises(ValueError, match="does not exist"):
        check_rows(str(tmp_path / "nowhere.parquet"), "data.val_files", processor, DATA, pixelate)
    rows = [make_row("train", 0)]
    del rows[0]["reward_model"]
    with pytest.raises(ValueError, match="no column 'reward_model'"):
        check_rows(write(tmp_path, rows), "data.val_files", processor, DATA, pixelate)


def test_the_pixel_budget_decides_the_visual_tokens(models):
    processor = check_models(*map(str, models))
    small = SimpleNamespace(**{**vars(DATA), "mm_processor_kwargs": {"min_pixels": 1024, "max_pixels": 1024}})
    tokens, fewer = (check_row(make_row("train", 0), processor, data, pixelate) for data in (DATA, small))
    assert tokens - fewer == 16 - 4  # an image of 64 x 64 pixels, one of 32 x 32; 16 x 16 a token
