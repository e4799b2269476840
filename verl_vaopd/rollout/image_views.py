"""Images of a prompt under both views, made once per prompt and fetched by its uid.

They travel in TransferQueue partition ``vision``, one row per prompt, while rollouts carry only the uid.
"""

import io
from functools import partial

import torch
import transfer_queue as tq
from PIL import Image

from verl_vaopd.model.vision import ImageInputs

PARTITION = "vision"
PIXELS, DEGRADED, THUMBNAIL_FIELD = "pixel_values", "pixel_values_degraded", "thumbnail"
THUMBNAIL = 384


def rendered(processor, chat: list[dict], data_config) -> str:
    """The chat as text, one placeholder an image, as the host's agent loop renders it."""
    settings = data_config.apply_chat_template_kwargs or {}
    return processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **settings)


def budgeted(processor, data_config):
    """The processor with the run's pixel budget (``data.mm_processor_kwargs``), which vLLM is given too."""
    return partial(processor, return_tensors="pt", **(data_config.mm_processor_kwargs or {}))


def degraded_images(images: list, degrade) -> list | None:
    """The images through ``degrade``, once each: some degradations draw. None: there is no second view."""
    return None if degrade is None else [degrade(image) for image in images]


def encode_views(text: str, images: list, processor, others: list | None = None) -> dict[str, torch.Tensor]:
    """Run the processor over the images and, unless they are None, over the degraded ones.

    Args:
        text: the prompt, with a placeholder for each image; processor: see :func:`budgeted`.
        others: see :func:`degraded_images`.
    Returns:
        ``pixel_values`` and ``pixel_values_degraded``; what else the processor returns for images, such as
        ``image_grid_thw`` [images, 3]; ``thumbnail`` [bytes], for the log.
    Raises:
        ValueError: a degraded image became other tokens (Section 2.1: the visual token count must not change).
    """
    original = processor(text=[text], images=images)
    views = {**ImageInputs.of(original).tensors, THUMBNAIL_FIELD: thumbnail(images)}
    if others is None:
        return views
    degraded = processor(text=[text], images=others)
    pixels = ImageInputs.of(degraded).tensors
    shared = [name for name in pixels if name != PIXELS]
    ids = original["input_ids"], degraded["input_ids"]
    if not torch.equal(*ids) or any(not torch.equal(views[name], pixels[name]) for name in shared):
        raise ValueError(
            "the degraded image has another patch grid than the original "
            f"({ids[1].shape[1]} against {ids[0].shape[1]} tokens of the prompt): "
            "the two views would not align token for token; the degradation must keep the image's size"
        )
    return {**views, DEGRADED: pixels[PIXELS]}


def thumbnail(images: list[Image.Image]) -> torch.Tensor:
    """The images beside each other, no side above ``THUMBNAIL`` pixels: a WebP file as uint8 [bytes].

    Each is shrunk before it is pasted: a wide one beside a tall one would span a strip that no memory holds.
    """
    width, height = sum(image.width for image in images), max(image.height for image in images)
    scale = min(1.0, THUMBNAIL / width, THUMBNAIL / height)
    sizes = [tuple(max(1, round(scale * side)) for side in image.size) for image in images]
    strip = Image.new("RGB", (sum(w for w, _ in sizes), max(h for _, h in sizes)), "white")
    left = 0
    for image, size in zip(images, sizes, strict=True):
        strip.paste(image.convert("RGB").resize(size, reducing_gap=2.0), (left, 0))
        left += size[0]
    strip.thumbnail((THUMBNAIL, THUMBNAIL))  # roundings may add up to a pixel or two
    strip.save(file := io.BytesIO(), "WEBP", quality=85)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


async def put_views(uid: str, views: dict[str, torch.Tensor]) -> None:
    shared = [name for name in views if name not in (PIXELS, DEGRADED, THUMBNAIL_FIELD)]
    await tq.async_kv_put(key=uid, partition_id=PARTITION, fields=views, tag={"kind": "vision", "shared": shared})


def fetch_views(
    uids: list[str], degraded: bool, original: bool = True
) -> tuple[dict[str, ImageInputs], dict[str, ImageInputs]]:
    """Fetch the images of the prompts ``uids`` (each once).

    Returns:
        (original, degraded): uid -> ImageInputs; empty where not asked for.
    """
    keys = sorted(set(uids))
    if not keys:
        return {}, {}
    # As many fields as the family's processor returns, the same for every prompt.
    shared = tq.kv_list(PARTITION)[PARTITION][keys[0]]["shared"]
    pixels = [name for name, asked in ((PIXELS, original), (DEGRADED, degraded)) if asked]
    data = tq.kv_batch_get(keys=keys, partition_id=PARTITION, select_fields=[*pixels, *shared])
    columns = {name: data[name].unbind() for name in shared}
    others = [{name: rows[place] for name, rows in columns.items()} for place in range(len(keys))]
    views = {
        name: {key: ImageInputs(row, **more) for key, row, more in zip(keys, data[name].unbind(), others, strict=True)}
        for name in pixels
    }
    return views.get(PIXELS, {}), views.get(DEGRADED, {})


def prompts_with_images(uids: list[str]) -> set[str]:
    """Those of the prompts ``uids`` that have images here."""
    return set(uids) & set(tq.kv_list(PARTITION).get(PARTITION, {}))


def fetch_thumbnails(uids: list[str]) -> dict[str, bytes]:
    """uid -> WebP file, of those of the prompts ``uids`` that have images."""
    keys = sorted(prompts_with_images(uids))
    if not keys:
        return {}
    data = tq.kv_batch_get(keys=keys, partition_id=PARTITION, select_fields=[THUMBNAIL_FIELD])
    return {key: row.numpy().tobytes() for key, row in zip(keys, data[THUMBNAIL_FIELD].unbind(), strict=True)}


def clear_views(uids: list[str]) -> None:
    """Drop the images of finished prompts."""
    keys = list(prompts_with_images(uids))
    if keys:
        tq.kv_clear(keys=keys, partition_id=PARTITION)
