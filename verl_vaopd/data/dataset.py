"""verl's dataset with images handed on as the RGB pixels they hold, at the size they have."""

import io

import datasets
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_vaopd.data.images import as_rgb


def images_of(messages: list[dict]) -> list[Image.Image]:
    """The images of a chat that :class:`VisionDataset` built, in order."""
    return [
        part["image"]
        for message in messages
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image"
    ]


class VisionDataset(RLHFDataset):
    """Differs from the host's: every image is decoded here, once, and not resized before the processor.

    The host passes images through qwen_vl_utils, whose own pixel budget comes first; here the image processor of the
    checkpoint is the only one that resizes, in vLLM, teacher and student alike. They also get the same pixels, because
    orientation, transparency, palettes and 16 bits are resolved before an image goes anywhere
    (:func:`~verl_vaopd.data.images.as_rgb`).
    """

    def _read_files_and_tokenize(self):
        """Images stay bytes until they are used: ``datasets`` would load them, and a loaded PNG has lost its depth."""
        super()._read_files_and_tokenize()
        column = self.dataframe.features.get(self.image_key)
        if isinstance(getattr(column, "feature", None), datasets.Image):
            self.dataframe = self.dataframe.cast_column(self.image_key, type(column)(datasets.Image(decode=False)))

    def _build_messages(self, example: dict, key: str):
        """Before the host's, which drops transparency, clips 16 bits and leaves the orientation in the metadata."""
        given = example.get(self.image_key) or []
        return super()._build_messages({**example, self.image_key: [decoded(image) for image in given]}, key)

    @classmethod
    def _process_multi_modal_info(cls, messages, image_patch_size, config):
        return images_of(messages) or None, None, None


def decoded(image: dict | Image.Image) -> Image.Image:
    """The RGB image of a row's entry: ``{"bytes": ...}``, or what ``datasets`` has opened already."""
    return as_rgb(image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image["bytes"])))
