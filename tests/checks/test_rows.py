"""Every row of every file is checked before a start, and what is refused is named: setting, file, row, field, cure."""

import io
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.checks.odd_images import ODD_IMAGES
from tests.data.upstream import png_that_claims
from verl_vaopd.algorithm import pixelate
from verl_vaopd.checks import rows as row_checks
from verl_vaopd.checks.host_values import graded_by_rule
from verl_vaopd.checks.rows import ROWS_ENCODED, RowCheck, check_rows, image_limit
from verl_vaopd.data.image_column import check_images
from verl_vaopd.data.rows import SCHEMA
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.tiny.processor import make_processor

DATA = SimpleNamespace(
    prompt_key="prompt",
    image_key="images",
    max_prompt_length=256,
    mm_processor_kwargs=None,
    apply_chat_template_kwargs={},
)


def check_row(row: dict, processor, data_config, degrade, max_images: int) -> int:
    """Check one row, pixels included, and encode it as training does. Returns the tokens of its prompt."""
    check = RowCheck(processor, data_config, degrade, max_images, "qwen3_vl")
    tokens = check(row, check_images(row.get(data_config.image_key), data_config.image_key))
    check.encode(row, tokens)
    return tokens


LATE = ROWS_ENCODED + 2
"""A row behind those that are encoded."""


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def write(tmp_path, rows, name="rows.parquet", schema=None):
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / name, row_group_size=4)
    return str(tmp_path / name)


def rows_with(change, index=LATE):
    rows = [make_row("train", i) for i in range(LATE + 2)]
    change(rows[index])
    return rows


def checked(files, processor, data=DATA, max_images=2, setting="data.train_files"):
    return check_rows(files, setting, processor, data, pixelate, max_images, "qwen3_vl")


def says(text):
    return lambda row: row["prompt"][0].update(content=text)


def first_image(data):
    return lambda row: row["images"][0].update(bytes=data)


def truth_is(truth):
    return lambda row: row["reward_model"].update(ground_truth=truth)


def test_good_rows_pass(processor, tmp_path):
    rows = [make_row("train", i) for i in range(3)]
    rows[1].update(images=[], prompt=[{"role": "user", "content": "2 + 2?"}])  # text only
    rows[2].update(images=rows[2]["images"] * 2, prompt=[{"role": "user", "content": "<image> or <image>?"}])
    files = [write(tmp_path, rows, name) for name in ("a.parquet", "b.parquet")]
    assert checked(files, processor) == 6


BAD = {
    "placeholders": (lambda r: r.update(images=[]), "prompt: has 1 <image> placeholders for 0 images"),
    "no_bytes": (first_image(None), r"images\[0\]: holds no image bytes"),
    "unreadable": (first_image(b"not a picture"), r"images\[0\]: not a readable image"),
    "cut_off": (lambda r: first_image(r["images"][0]["bytes"][:200])(r), r"images\[0\]: cannot be decoded"),
    "bomb": (first_image(png_that_claims(40_000, 25_000)), r"images\[0\]: .*exceeds limit"),
    "large": (first_image(png_that_claims(10_000, 9_000)), r"images\[0\]: 10000 x 9000 is over the limit"),
    "no_pixels": (first_image(png_that_claims(0, 10)), r"images\[0\]: "),
    "path": (lambda r: r["images"][0].update(bytes=None, path="a.png"), "'a.png' and no bytes.*no path is opened"),
    "overlong": (says("<image>" + "long " * 400), "prompt: the prompt has .* data.max_prompt_length is 256.*or more"),
    "empty": (says("<image> \n"), "prompt: has no text"),
    "three_images": (
        lambda r: r.update(images=r["images"] * 3) or says("<image><image><image>Which?")(r),
        "images: holds 3 images, vLLM takes 2.*limit_mm_per_prompt.image=3",
    ),
    "end_of_turn": (says("<image>a<|im_end|>"), r"prompt\[0\]: has the special token <\|im_end\|> typed"),
    "image_pad": (says("<image>a<|image_pad|>"), r"the special token <\|image_pad\|>"),
    "stand_in": (says("<image>a<|placeholder|>"), r"the special token <\|placeholder\|>"),
    "video": (says("<image>a<video>"), "has a <video> placeholder"),
    "role": (lambda r: r["prompt"][0].update(role="oracle"), r"prompt\[0\]: has the role str 'oracle'"),
    "no_prompt": (lambda r: r.update(prompt=None), "prompt: is no list of messages but NoneType"),
    "no_truth": (lambda r: r.update(reward_model=None), "reward_model: is NoneType"),
    **{
        f"truth_{number}": (truth_is(truth), f"reward_model.ground_truth: is {words}")
        for number, (truth, words) in enumerate(
            [
                (None, "empty"),
                ("", "empty"),
                ("\u200b", ".*, in which nothing shows"),
                (".", "'.', which no"),
                (r"\boxed{}", ".*which no"),
            ]
        )
    },
    "answer_last": (
        lambda r: r["prompt"].append({"role": "assistant", "content": "4"}),
        r"prompt\[1\]: is an answer, behind which none is given",
    ),
    "invisible": (says("<image>\u200b"), "prompt: has no text"),
}


@pytest.mark.parametrize("truth", [float("nan"), float("inf"), -float("inf")])
def test_a_truth_that_is_no_number_is_refused(processor, tmp_path, truth):
    rows = [make_row("train", 0)]
    truth_is(truth)(rows[0])
    with pytest.raises(ValueError, match="empty_answer.*\n.*reward_model.ground_truth: is empty"):
        checked(write(tmp_path, rows), processor)


def test_another_reward_may_do_without_truths(processor, tmp_path):
    rows = [make_row("train", i) for i in range(3)]
    for row, truth in zip(rows, (None, "", "."), strict=True):
        truth_is(truth)(row)
    path = write(tmp_path, rows)
    assert check_rows(path, "data.train_files", processor, DATA, pixelate, 2, "qwen3_vl", by_rule=False) == 3
    rewards = [("pkg://verl_vaopd.data.reward", True), ("reward.py", False), (None, False)]
    for path, by_rule in rewards:
        reward = {"custom_reward_function": {"path": path, "name": "compute_score"}}
        assert graded_by_rule(OmegaConf.create({"reward": reward})) is by_rule


@pytest.mark.parametrize("info", [None, {}, {"id": None, "index": 3}, {"id": float("nan")}])
def test_rows_need_no_id(processor, tmp_path, info):
    rows = [{**make_row("train", i), "extra_info": info} for i in range(3)]
    rows[1].update(images=[], prompt=[{"role": "user", "content": "2 + 2?"}])
    for row in rows if info is None or info == {} else ():
        del row["extra_info"]
    assert checked(write(tmp_path, rows), processor) == 3


def test_ids_are_of_a_file_and_data_source(processor, tmp_path):
    rows = [make_row("train", 0), {**make_row("train", 0), "data_source": "other"}]
    path = write(tmp_path, rows)
    assert checked([path, path], processor) == 4  # a file that is named twice counts twice


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named(processor, tmp_path, name):
    change, words = BAD[name]
    path = write(tmp_path, rows_with(change), schema=SCHEMA)
    match = rf"(?s)data.train_files: 1 bad rows of 12.*{path}, row {LATE} .*{words}"
    with pytest.raises(ValueError, match=match) as refusal:
        checked([path], processor)
    assert "Mend: " in str(refusal.value)


def test_all_bad_rows_are_counted_and_the_first_shown(processor, tmp_path):
    rows = [make_row("train", i) for i in range(30)]
    for row in rows[5:]:
        says("<image>")(row)
    with pytest.raises(ValueError, match=r"(?s)25 bad rows of 30 \(empty_question: 25\).*row 24 .*and 5 more"):
        checked(write(tmp_path, rows), processor)


@pytest.mark.parametrize("column", ["prompt", "ability"])
def test_text_that_is_not_utf8_is_named(processor, tmp_path, column):
    table = pa.Table.from_pylist([make_row("train", i) for i in range(12)], schema=SCHEMA)
    broken = pa.StringArray.from_buffers(12, *pa.array([b"<image>Add.\xff"] * 12, pa.binary()).buffers()[1:])
    if column == "prompt":
        messages = pa.StructArray.from_arrays([pa.array(["user"] * 12), broken], names=["role", "content"])
        broken = pa.ListArray.from_arrays(pa.array(range(13), pa.int32()), messages)
    table = table.set_column(table.schema.get_field_index(column), column, broken)
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=f"(?s)12 bad rows.*row 0 .*{column}: is not UTF-8 text .*save it as UTF-8"):
        checked(str(tmp_path / "rows.parquet"), processor)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: r.update(prompt="<image>What?"), "prompt: is no list of messages but str '<image>What"),
        (lambda r: r.update(prompt=[{"role": "user", "content": 3}]), r"prompt\[0\]: is no message .* but dict"),
        (lambda r: r.update(images="a.png"), "images: is no list but str"),
        (lambda r: r.update(images=[3]), r"images\[0\]: is int"),
        (lambda r: r.update(reward_model="4"), "reward_model: is str '4'"),
        (lambda r: r.update(reward_model={"ground_truth": ["4"]}), "reward_model.ground_truth: is list"),
        (lambda r: r.update(data_source=4), "data_source: is int 4"),
        (lambda r: r.update(extra_info="x"), "extra_info: is str 'x'"),
    ],
)
def test_columns_of_a_wrong_type_are_named(processor, tmp_path, change, words):
    rows = [make_row("train", 0)]
    change(rows[0])
    with pytest.raises(ValueError, match=f"(?s)row 0 .*{words}.*Mend"):
        checked(write(tmp_path, rows), processor)


def test_files_that_are_no_data_are_named(processor, tmp_path):
    row = make_row("train", 0)
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "rows.csv").write_text("a,b")
    whole = write(tmp_path, [make_row("train", i) for i in range(40)], "whole.parquet")
    bytes_of = bytearray(open(whole, "rb").read())
    bytes_of[4:-4000] = bytes(len(bytes_of) - 4004)  # its footer is left
    (tmp_path / "torn.parquet").write_bytes(bytes_of)
    for files, words in [
        (str(tmp_path / "nowhere.parquet"), "nowhere.parquet does not exist"),
        (str(tmp_path / "rows.csv"), "rows.csv must be a parquet file"),
        (str(tmp_path / "text.parquet"), "text.parquet cannot be read as parquet"),
        (str(tmp_path / "torn.parquet"), "torn.parquet cannot be read"),
        (str(tmp_path), "must be a parquet file"),
        ([], r"\[\]: must name a parquet file"),
        (3, "3: must name a parquet file"),
        (write(tmp_path, [], "empty.parquet", SCHEMA), "has no rows"),
        (write(tmp_path, [{k: v for k, v in row.items() if k != "reward_model"}]), "no column 'reward_model'"),
    ]:
        with pytest.raises(ValueError, match=f"data.val_files.*{words}"):
            checked(files, processor, setting="data.val_files")
    with pytest.raises(ValueError, match="the column 'agent_name', a name that verl acts on"):
        checked(write(tmp_path, [row | {"agent_name": "tool_agent"}]), processor)
    other = write(tmp_path, [row | {"ability": 3}], "other.parquet")
    with pytest.raises(ValueError, match="the files have different columns"):
        checked([whole, other], processor)


def test_the_limit_is_that_of_the_rollout(processor):
    """verl cuts a text-only prompt to the limit, so a prompt of that very length is refused too."""
    row = make_row("train", 0)
    tokens = check_row(row, processor, DATA, pixelate, 1)
    with pytest.raises(ValueError, match=f"{tokens} tokens, data.max_prompt_length is {tokens}"):
        check_row(row, processor, SimpleNamespace(**{**vars(DATA), "max_prompt_length": tokens}), pixelate, 1)
    check_row(row, processor, SimpleNamespace(**{**vars(DATA), "max_prompt_length": tokens + 1}), pixelate, 1)


@pytest.mark.parametrize("budget", [None, {"min_pixels": 1024, "max_pixels": 4096}])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (1, 150), (7, 300), (333, 500), (1000, 31)])
def test_tokens_are_counted_as_the_processor_makes_them(processor, size, budget):
    Image.new("RGB", size).save(file := io.BytesIO(), "PNG")
    row = make_row("train", 0)
    row["images"] = [{"bytes": file.getvalue()}] * 2
    says("<image>Is <image> like it? 数 \u0301")(row)
    data = SimpleNamespace(**{**vars(DATA), "mm_processor_kwargs": budget, "max_prompt_length": 10_000})
    counted = RowCheck(processor, data, pixelate, 2, "qwen3_vl")(row, [size, size])
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is "}]}]
    chat[0]["content"] += [{"type": "image"}, {"type": "text", "text": " like it? 数 \u0301"}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    images = [Image.new("RGB", size)] * 2
    assert counted == len(processor(text=[text], images=images, **(budget or {}))["input_ids"][0])


def test_the_pixel_budget_decides_the_visual_tokens(processor):
    small = SimpleNamespace(**{**vars(DATA), "mm_processor_kwargs": {"min_pixels": 1024, "max_pixels": 1024}})
    tokens, fewer = (check_row(make_row("train", 0), processor, data, pixelate, 1) for data in (DATA, small))
    assert tokens - fewer == 16 - 4  # an image of 64 x 64 pixels, one of 32 x 32; 16 x 16 a token


def test_a_count_that_the_processor_does_not_keep_is_refused(processor, tmp_path, monkeypatch):
    counted = processor.image_processor.get_number_of_image_patches
    other = lambda *size: counted(*size) + 4  # noqa: E731
    monkeypatch.setattr(processor.image_processor, "get_number_of_image_patches", other)
    with pytest.raises(ValueError, match="row 0 .*images: the processor makes .* tokens of the prompt"):
        checked(write(tmp_path, [make_row("train", 0)]), processor)


def test_what_a_template_leaves_out_is_refused(processor):
    row = make_row("train", 0)
    row["prompt"] = [{"role": "system", "content": "Be brief."}, *row["prompt"]]
    check_row(row, processor, DATA, pixelate, 1)
    silent = make_processor()
    silent.chat_template = silent.chat_template.replace("in messages -%}", "in messages if message.role == 'user' -%}")
    with pytest.raises(ValueError, match=r"prompt\[0\]: the chat template leaves out what the message \(system\)"):
        check_row(row, silent, DATA, pixelate, 1)
    silent.chat_template = "{{ messages.nothing.at_all }}"
    with pytest.raises(ValueError, match="prompt: the chat template does not take it"):
        check_row(row, silent, DATA, pixelate, 1)


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_odd_images_are_fit_to_train_on(processor, name):
    row = make_row("train", 0)
    first_image(ODD_IMAGES[name][0])(row)
    assert check_row(row, processor, DATA, pixelate, 1) > 8


def test_many_rows_are_checked_by_processes_and_progress_is_shown(processor, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(row_checks, "POOL_ROWS", 8)
    monkeypatch.setattr(row_checks, "PROGRESS_S", 0)
    path = write(tmp_path, rows_with(first_image(b"not a picture")))
    with pytest.raises(ValueError, match=rf"(?s)1 bad rows of 12.*row {LATE} .*not a readable image"):
        checked(path, processor)
    assert "data.train_files: 12 of 12 rows checked, 1 bad" in capfd.readouterr().out


@pytest.mark.parametrize("vllm, limit", [({"limit_mm_per_prompt": {"image": 3}}, 3), ({}, 999)])
def test_the_limit_of_images_is_vllms_own(vllm, limit):
    rollout = {"engine_kwargs": {"vllm": vllm}}
    assert image_limit(OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}})) == limit
