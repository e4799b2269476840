"""How many tokens a prompt becomes, from its text and its images' sizes alone."""

from functools import lru_cache

from PIL import Image


class PromptTokens:
    """Called with a prompt's text, a placeholder for each image, and their sizes in pixels (width, height), says how
    many tokens the processor makes of it.

    Args:
        processor: of any family; budget: its keyword arguments (``data.mm_processor_kwargs``).
    """

    def __init__(self, processor, budget: dict):
        self.processor, self.budget = processor, budget
        self.counts_patches = hasattr(processor.image_processor, "merge_size")
        self.writes_images = hasattr(processor, "full_image_sequence")
        self._of_blank = lru_cache(maxsize=None)(self._of_blank)

    def __call__(self, text: str, sizes: list[tuple[int, int]]) -> int:
        if self.writes_images:  # of Gemma 3: text that hangs on no size, and whose newlines melt with those around it
            text, sizes = text.replace(self.processor.boi_token, self.processor.full_image_sequence), []
        tokens = len(self.processor.tokenizer(text)["input_ids"])
        return tokens + sum(self._of_image(width, height) - 1 for width, height in sizes)

    def _of_image(self, width: int, height: int) -> int:
        """Tokens in a placeholder's place."""
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
