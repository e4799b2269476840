"""Both views of a prompt's images are made once per prompt, aligned patch by patch."""

import asyncio
import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.tiny.processor import make_processor
from verl_vaopd.trainer import rollout
from verl_vaopd.trainer.rollout import VisionAgentLoopWorker, without_images
from verl_vaopd.trainer.vision import encode_views, thumbnail


def chat():
    image = Image.open(io.BytesIO(make_row("train", 0)["images"][0]["bytes"]))
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Add."}]}]


@pytest.mark.parametrize("degraded_view", [True, False])
def test_views_are_encoded_once_per_prompt(monkeypatch, degraded_view):
    processor = make_processor()
    encoded, stored, rollouts = [], {}, []

    class CountingImageProcessor:
        def __call__(self, images, **kwargs):
            encoded.append(len(images))
            return processor.image_processor(images=images, **kwargs)

    async def put(uid, views):
        stored[uid] = views

    async def four_rollouts(self, prompt, sampling_params, trajectory, trace=False):
        for _ in range(4):
            rollouts.append(self._compute_multi_modal_inputs(None, None))

    worker = VisionAgentLoopWorker.__new__(VisionAgentLoopWorker)
    worker.processor = SimpleNamespace(image_processor=CountingImageProcessor())
    worker.config = SimpleNamespace(
        vaopd=SimpleNamespace(degradation="gaussian_blur", degradation_ratio=0.1, degraded_view=degraded_view),
        data=SimpleNamespace(mm_processor_kwargs={"min_pixels": 1024, "max_pixels": 32 * 32}),
    )
    monkeypatch.setattr(rollout, "put_views", put)
    monkeypatch.setattr(VisionAgentLoopWorker.__mro__[1], "_run_prompt", four_rollouts)

    asyncio.run(worker._run_prompt({"uid": "a", "raw_prompt": chat()}, {}, {}))
    asyncio.run(worker._run_prompt({"uid": "b", "raw_prompt": [{"role": "user", "content": "no image"}]}, {}, {}))
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


def test_degradation_that_changes_the_grid_is_refused():
    image = chat()[0]["content"][0]["image"].convert("RGB")
    with pytest.raises(ValueError, match="another patch grid"):
        encode_views([image], make_processor().image_processor, lambda image: image.resize((128, 64)))


def test_thumbnails_hold_all_images_and_stay_small():
    images = [Image.new("RGB", size, "red") for size in ((3000, 1000), (1000, 2000))]
    picture = Image.open(io.BytesIO(thumbnail(images).numpy().tobytes()))
    assert picture.format == "WEBP" and picture.size == (384, 192)  # 4000 x 2000, beside each other


def test_rollout_rows_keep_no_image():
    assert without_images(chat())[0]["content"] == [{"type": "image"}, {"type": "text", "text": "Add."}]
