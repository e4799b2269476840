"""How many tokens an image becomes, from its size alone."""

from functools import lru_cache

from PIL import Image


class ImageTokens:
    """Called with a width and a height in pixels, says how many tokens the processor puts in a placeholder's place.

    Args:
        processor: of any family; budget: its keyword arguments (``data.mm_processor_kwargs``).
    """

    def __init__(self, processor, budget: dict):
        self.processor, self.budget = processor, budget
        self.counts_patches = hasattr(processor.image_processor, "merge_size")
        self._of_blank = lru_cache(maxsize=None)(self._of_blank)

    def __call__(self, width: int, height: int) -> int:
        if not self.counts_patches:
            return self._of_blank(width, height)
        images = self.processor.image_processor  # of Qwen-VL and GLM-4V: it can count without an image
        return images.get_number_of_image_patches(height, width, self.budget) // images.merge_size**2

    def _of_blank(self, width: int, height: int) -> int:
        """By encoding a blank image of that size, once a size."""
        image = Image.new("RGB", (width, height))
        ids = self.processor(text=[self.processor.image_token], images=[image], **self.budget)["input_ids"][0]
        alone = self.processor.tokenizer(self.processor.image_token)["input_ids"]
        return len(ids) - len(alone) + 1
