"""Random rollouts for the tiny models: one image, two images, none; three siblings each."""

import torch
from transformers import Qwen3VLConfig

from verl_vaopd.model.vision import ImageInputs

LENGTHS = (7, 1, 9)  # response tokens of the siblings
BUDGET = 200  # tokens of a micro-batch


class Prompts:
    """``rows``: (uid, input ids, response length), siblings together; ``original``, ``degraded``: uid -> images."""

    def __init__(self, config: Qwen3VLConfig, lengths: tuple[int, ...] = LENGTHS):
        self.config, self.generator = config, torch.Generator().manual_seed(0)
        grids = {"one": [(4, 4)], "two": [(4, 6), (2, 4)], "text": []}
        with_images = {uid: grid for uid, grid in grids.items() if grid}
        self.original, self.degraded = ({uid: self._images(g) for uid, g in with_images.items()} for _ in range(2))
        prompts = {uid: self._prompt(grid) for uid, grid in grids.items()}
        self.rows = [(uid, torch.cat([prompt, self._text(n)]), n) for uid, prompt in prompts.items() for n in lengths]

    def _text(self, length: int) -> torch.Tensor:
        lowest = min(self.config.image_token_id, self.config.video_token_id, self.config.vision_start_token_id)
        return torch.randint(0, lowest, (length,), generator=self.generator)

    def _images(self, grids) -> ImageInputs:
        vision = self.config.vision_config
        width = 3 * vision.temporal_patch_size * vision.patch_size**2
        patches = torch.randn(sum(h * w for h, w in grids), width, generator=self.generator)
        return ImageInputs(patches, torch.tensor([[1, h, w] for h, w in grids]))

    def _prompt(self, grids) -> torch.Tensor:
        start, end = ([self.config.vision_start_token_id], [self.config.vision_end_token_id])
        merged = self.config.vision_config.spatial_merge_size**2
        parts = [self._text(3)]
        for h, w in grids:
            parts.append(torch.tensor(start + [self.config.image_token_id] * (h * w // merged) + end))
        return torch.cat([*parts, self._text(4)])
