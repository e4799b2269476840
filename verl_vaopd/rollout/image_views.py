"""Images of a prompt under both views, made once per prompt and fetched by its uid.

They travel in TransferQueue partition ``vision``, one row per prompt, while rollouts carry only the uid.
"""

import io
from functools import partial

import torch
import transfer_queue as tq
from PIL import Image

from verl_vaopd.model.packing import ImageInputs

PARTITION = "vision"
FIELDS = ["pixel_values", "pixel_values_degraded", "image_grid_thw"]
THUMBNAIL = 384


def budgeted(processor, data_config):
    """The image processor with the run's pixel budget (``data.mm_processor_kwargs``), which vLLM is given too."""
    return partial(processor.image_processor, **(data_config.mm_processor_kwargs or {}))


def encode_views(images: list, image_processor, degrade=None) -> dict[str, torch.Tensor]:
    """Run the image processor over the images as they are and, unless it is None, over ``degrade(image)``.

    Returns:
        ``pixel_values`` and ``pixel_values_degraded`` [patches, patch_dim]; ``image_grid_thw`` [images, 3];
        ``thumbnail`` [bytes], for the log.
    Raises:
        ValueError: a degraded image got another patch grid (Section 2.1: the visual token count must not change).
    """
    original = image_processor(images=images, return_tensors="pt")
    views = {
        "pixel_values": original["pixel_values"].float(),
        "image_grid_thw": original["image_grid_thw"],
        "thumbnail": thumbnail(images),
    }
    if degrade is None:
        return views
    degraded = image_processor(images=[degrade(image) for image in images], return_tensors="pt")
    if not torch.equal(original["image_grid_thw"], degraded["image_grid_thw"]):
        raise ValueError(
            "the degraded image has another patch grid than the original "
            f"({degraded['image_grid_thw'].tolist()} against {original['image_grid_thw'].tolist()}): "
            "the two views would not align token for token; the degradation must keep the image's size"
        )
    return {**views, "pixel_values_degraded": degraded["pixel_values"].float()}


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
    await tq.async_kv_put(key=uid, partition_id=PARTITION, fields=views, tag={"kind": "vision"})


def fetch_views(uids: list[str], degraded: bool) -> tuple[dict[str, ImageInputs], dict[str, ImageInputs]]:
    """Fetch the images of the prompts ``uids`` (each once).

    Returns:
        (original, degraded): uid -> ImageInputs; the second is empty unless asked for.
    """
    keys = sorted(set(uids))
    if not keys:
        return {}, {}
    fields = FIELDS if degraded else [FIELDS[0], FIELDS[2]]
    data = tq.kv_batch_get(keys=keys, partition_id=PARTITION, select_fields=fields)
    grids = list(data["image_grid_thw"].unbind())
    views = [
        {key: ImageInputs(pixels, grid) for key, pixels, grid in zip(keys, data[name].unbind(), grids, strict=True)}
        for name in fields[:-1]
    ]
    return views[0], views[1] if degraded else {}


def prompts_with_images(uids: list[str]) -> set[str]:
    """Those of the prompts ``uids`` that have images here."""
    return set(uids) & set(tq.kv_list(PARTITION).get(PARTITION, {}))


def fetch_thumbnails(uids: list[str]) -> dict[str, bytes]:
    """uid -> WebP file, of those of the prompts ``uids`` that have images."""
    keys = sorted(prompts_with_images(uids))
    if not keys:
        return {}
    data = tq.kv_batch_get(keys=keys, partition_id=PARTITION, select_fields=["thumbnail"])
    return {key: row.numpy().tobytes() for key, row in zip(keys, data["thumbnail"].unbind(), strict=True)}


def clear_views(uids: list[str]) -> None:
    """Drop the images of finished prompts."""
    keys = list(prompts_with_images(uids))
    if keys:
        tq.kv_clear(keys=keys, partition_id=PARTITION)
