"""Both views of a prompt's images are made once per prompt, aligned patch by patch."""

import asyncio
import io
import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from verl_vaopd.algorithm.pixelation import pixelate
from verl_vaopd.data.dataset import images_of
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.rollout import agent_loop
from verl_vaopd.rollout.agent_loop import VisionAgentLoopWorker, without_images
from verl_vaopd.rollout.image_views import budgeted, encode_views, thumbnail
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.tiny.processor import make_processor


def chat():
    image = Image.open(io.BytesIO(make_row("train", 0)["images"][0]["bytes"]))
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Add."}]}]


def settings(**given):
    return VAOPDConfig(teacher=TeacherConfig(path="t"), output_dir="x", **given)


@pytest.mark.parametrize("degraded_view", [True, False])
def test_views_are_encoded_once_per_prompt(monkeypatch, degraded_view):
    processor = make_processor()
    encoded, stored, rollouts = [], {}, []

    class CountingProcessor:
        apply_chat_template = processor.apply_chat_template

        def __call__(self, images, **kwargs):
            encoded.append(len(images))
            return processor(images=images, **kwargs)

    async def put(uid, views):
        stored[uid] = views

    async def four_rollouts(self, prompt, sampling_params, trajectory, trace=False):
        for _ in range(4):
            rollouts.append(self._compute_multi_modal_inputs(None, None))

    worker = VisionAgentLoopWorker.__new__(VisionAgentLoopWorker)
    worker.processor = CountingProcessor()
    worker.vaopd = settings(method="opd", degradation="gaussian_blur", degraded_view=degraded_view)
    worker.config = SimpleNamespace(
        data=SimpleNamespace(
            mm_processor_kwargs={"min_pixels": 1024, "max_pixels": 32 * 32}, apply_chat_template_kwargs={}, seed=42
        )
    )
    monkeypatch.setattr(agent_loop, "put_views", put)
    monkeypatch.setattr(VisionAgentLoopWorker.__mro__[1], "_run_prompt", four_rollouts)

    text = [{"role": "user", "content": "no image"}]
    at = {"validate": False, "step": 1, "sample_index": 0}
    asyncio.run(worker._run_prompt({"uid": "a", "raw_prompt": chat()}, {}, at))
    asyncio.run(worker._run_prompt({"uid": "b", "raw_prompt": text}, {}, at))
    assert encoded == [1] * (1 + degraded_view)  # one prompt has an image: one pass a view
    assert list(stored) == ["a"] and rollouts == [{}] * 8
    views = stored["a"]
    assert Image.open(io.BytesIO(views["thumbnail"].numpy().tobytes())).size == (64, 64)
    if not degraded_view:
        assert set(views) == {"pixel_values", "image_grid_thw", "thumbnail"}
        return
    assert views["pixel_values"].shape == views["pixel_values_degraded"].shape
    assert len(views["pixel_values"]) == 16  # 64 x 64 pixels are 64 patches, under the budget of 32 x 32 pixels 16
    assert not torch.equal(views["pixel_values"], views["pixel_values_degraded"])


def test_a_student_of_a_better_picture_is_shown_the_degraded_one(monkeypatch):
    """By vLLM, in training and at validations; what the teacher sees is stored as for any method."""
    prompts, stored = [], {}

    async def put(uid, views):
        stored[uid] = views

    async def rollouts(self, prompt, sampling_params, trajectory, trace=False):
        prompts.append(prompt["raw_prompt"])

    monkeypatch.setattr(agent_loop, "put_views", put)
    monkeypatch.setattr(VisionAgentLoopWorker.__mro__[1], "_run_prompt", rollouts)
    data = SimpleNamespace(mm_processor_kwargs={}, apply_chat_template_kwargs={}, seed=42)
    image = images_of(chat())[0].convert("RGB")
    given = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Add."}]}]
    for method, validate in (("vaopd", False), ("self", False), ("self", True)):
        worker = VisionAgentLoopWorker.__new__(VisionAgentLoopWorker)
        worker.processor, worker.config = make_processor(), SimpleNamespace(data=data)
        worker.vaopd = settings(method=method, degradation_ratio=0.25)
        at = {"validate": validate, "step": 1, "sample_index": 0}
        asyncio.run(worker._run_prompt({"uid": f"{method} {validate}", "raw_prompt": given}, {}, at))
    coarse = pixelate(image, 0.25).tobytes()
    shown = [images_of(prompt)[0].tobytes() for prompt in prompts]
    assert shown == [image.tobytes(), coarse, coarse] and image.tobytes() != coarse
    assert [part["type"] for part in prompts[1][0]["content"]] == ["image", "text"]
    assert images_of(given)[0] is image  # the row is as it was: it may be drawn again
    first, *others = stored.values()
    for views in others:
        assert all(torch.equal(first[name], views[name]) for name in first)


def second_view(method: str, validate: bool = False, step: int = 1, index: int = 0):
    worker = VisionAgentLoopWorker.__new__(VisionAgentLoopWorker)
    worker.vaopd = settings(method=method)
    worker.config = SimpleNamespace(data=SimpleNamespace(seed=42))
    made = worker._second_view({"validate": validate, "step": step, "sample_index": index})
    return made and made(Image.new("RGB", (140, 140), "white"))


def test_papo_masks_patches_anew_each_time_and_in_training_only():
    masked = second_view("papo")
    colours = dict((colour, count) for count, colour in masked.getcolors())
    assert set(colours) == {(0, 0, 0), (255, 255, 255)}
    assert 0.4 < colours[0, 0, 0] / 140**2 < 0.8  # 0.6 expected
    assert second_view("papo") == masked  # a step that is run again
    assert second_view("papo", step=2) != masked and second_view("papo", index=1) != masked
    assert second_view("papo", validate=True) is None


@pytest.mark.parametrize("method, seen", [("grpo", False), ("base", True), ("opd", True), ("vaopd", True)])
def test_the_degraded_view_is_made_where_a_teacher_looks_at_it(method, seen):
    assert (second_view(method) is not None) == seen == (second_view(method, validate=True) is not None)


def test_degradation_that_changes_the_grid_is_refused():
    image = chat()[0]["content"][0]["image"].convert("RGB")
    with pytest.raises(ValueError, match="another patch grid"):
        processor = budgeted(make_processor(), SimpleNamespace(mm_processor_kwargs=None))
        encode_views("<|image_pad|>", [image], processor, [image.resize((128, 64))])


def test_thumbnails_hold_all_images_and_stay_small():
    images = [Image.new("RGB", size, "red") for size in ((3000, 1000), (1000, 2000))]
    picture = Image.open(io.BytesIO(thumbnail(images).numpy().tobytes()))
    assert picture.format == "WEBP" and picture.size == (384, 192)  # 4000 x 2000, beside each other


def test_a_thumbnail_of_a_wide_and_a_tall_image_takes_no_more_memory_than_they_do(monkeypatch):
    made = []
    new = Image.new
    images = [new("RGB", (16000, 100)), new("RGB", (100, 16000))]
    monkeypatch.setattr(Image, "new", lambda mode, size, *more: made.append(size) or new(mode, size, *more))
    picture = Image.open(io.BytesIO(thumbnail(images).numpy().tobytes()))
    assert max(picture.size) <= 384
    assert max(width * height for width, height in made) <= 384 * 384 + 4 * 384  # not 16,100 x 16,000


def test_rollout_rows_keep_no_image():
    assert without_images(chat())[0]["content"] == [{"type": "image"}, {"type": "text", "text": "Add."}]


def test_a_rollout_without_a_token_is_named_and_saved(tmp_path):
    worker = VisionAgentLoopWorker.__new__(VisionAgentLoopWorker)
    worker.tokenizer = make_processor().tokenizer
    worker.config = SimpleNamespace(vaopd=SimpleNamespace(output_dir=str(tmp_path)))
    worker.rollout_config = SimpleNamespace(prompt_length=64)
    row = {"raw_prompt": chat(), "extra_info": {"id": "row-7"}, "global_steps": 3}
    empty = SimpleNamespace(prompt_ids=worker.tokenizer.encode("Add."), response_ids=[])
    for _ in range(2):  # two siblings
        with pytest.raises(RuntimeError, match="without any token"):
            asyncio.run(worker._agent_loop_postprocess(empty, validate=False, **row))
    assert (tmp_path / "progress.log").read_text().count("ALARM empty_rollout: step 3: ") == 2
    assert "row-7" in (tmp_path / "progress.log").read_text()
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert logged == [{"step": 3, "alarms": ["empty_rollout"]}] * 2
    saved = (tmp_path / "faults" / "step_3_empty_rollout.jsonl").read_text().splitlines()
    sample = {"id": "row-7", "question": "Add.", "tokens": [], "token_ids": []}
    assert [json.loads(line) for line in saved] == [sample] * 2
