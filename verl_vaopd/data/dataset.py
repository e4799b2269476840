"""verl's dataset with images handed on exactly as they were loaded."""

from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset


def images_of(messages: list[dict]) -> list[Image.Image]:
    """The PIL images of a chat, in order, as RGB."""
    return [
        part["image"].convert("RGB")
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    ]


class VisionDataset(RLHFDataset):
    """Differs from the host's: images are not resized before the processor.

    The host passes them through qwen_vl_utils, whose own pixel budget comes first; here the image processor of the
    checkpoint is the only one that resizes, in vLLM, teacher and student alike.
    """

    @classmethod
    def _process_multi_modal_info(cls, messages, image_patch_size, config):
        return images_of(messages) or None, None, None
