"""Parameters, FLOPs and bytes of a vision tower, in closed form; the counting rules are those of costs/shapes.py."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Tower:
    """What the towers share; fields as in ``vision_config``. A decoder's token is spatial_merge_size ** 2 patches."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    out_hidden_size: int

    mlp_matrices: ClassVar[int]
    """Matrices [h, i] of a block's MLP."""

    @property
    def merge(self) -> int:
        """Patches per decoder token."""
        return self.spatial_merge_size**2

    @property
    def patch_matrix(self) -> int:
        """Weights of the convolution that embeds a patch; its stride is its kernel, so it is a matrix."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2 * self.hidden_size

    @property
    def block_matrix(self) -> int:
        """Weights of one block's matrices: q, k, v and output [h, h], those of the MLP [h, i]."""
        return 4 * self.hidden_size**2 + self.mlp_matrices * self.hidden_size * self.intermediate_size

    @property
    def merger_matrix(self) -> int:
        """Weights of one merger's matrices: [m h, m h] and [m h, out], m patches together."""
        merged = self.merge * self.hidden_size
        return merged**2 + merged * self.out_hidden_size

    @property
    def mergers(self) -> int:
        """The last one and one per deepstack layer."""
        return 1 + len(self.deepstack_visual_indexes)

    @property
    def linear_flops(self) -> float:
        """FLOPs per patch of one forward, without attention scores; the mergers run once per m patches."""
        return 2 * (self.patch_matrix + self.depth * self.block_matrix + self.mergers * self.merger_matrix / self.merge)

    @property
    def recomputed_flops(self) -> int:
        """FLOPs per patch that checkpointed blocks run again: all but their last matrix; nothing of what is around."""
        return 2 * self.depth * (self.block_matrix - self.hidden_size * self.intermediate_size)

    @property
    def score_flops(self) -> int:
        """FLOPs per pair of patches that attend to each other, were it so in all blocks."""
        return 4 * self.depth * self.hidden_size

    def pairs(self, patches: float) -> float:
        """Pairs of patches of one image, the mean over blocks; attention is not causal: n patches have n * n pairs."""
        return patches**2


@dataclass(frozen=True, kw_only=True)
class VisionShape(Tower):
    """The tower of Qwen3-VL: learned positions, LayerNorms, deepstack."""

    num_position_embeddings: int
    deepstack_visual_indexes: tuple[int, ...]

    mlp_matrices: ClassVar[int] = 2

    @property
    def merger_parameters(self) -> int:
        """All mergers: matrices, biases, norms. The last one norms single patches, the others m of them together."""
        merged, more = self.merge * self.hidden_size, len(self.deepstack_visual_indexes)
        each = self.merger_matrix + merged + self.out_hidden_size
        return self.mergers * each + 2 * self.hidden_size + more * 2 * merged

    @property
    def block_linear(self) -> dict[str, tuple[int, int]]:
        """Name of a block's linear layer -> (inputs, outputs)."""
        h, i = self.hidden_size, self.intermediate_size
        return {
            "attn.qkv": (h, 3 * h),
            "attn.proj": (h, h),
            "mlp.linear_fc1": (h, i),
            "mlp.linear_fc2": (i, h),
        }

    merger_linear: ClassVar[tuple[str, str]] = ("linear_fc1", "linear_fc2")

    @property
    def block_parameters(self) -> int:
        """The matrices of a block, their biases, two norms (weight and bias)."""
        return self.block_matrix + 5 * self.hidden_size + self.intermediate_size + 4 * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights, with biases, norms and position embeddings."""
        h = self.hidden_size
        embed = self.patch_matrix + h + self.num_position_embeddings * h
        return embed + self.depth * self.block_parameters + self.merger_parameters

    @property
    def block_activations(self) -> int:
        """Elements that one block writes per patch: 6 h as in the decoder, q, k, v, q and k rotated, result; 2 i."""
        return 12 * self.hidden_size + 2 * self.intermediate_size


@dataclass(frozen=True, kw_only=True)
class WindowedVisionShape(Tower):
    """The tower of Qwen2.5-VL: gated MLP with biases, RMSNorms, windows in all blocks but ``fullatt_block_indexes``."""

    window_size: int
    """Pixels of a window's side."""
    fullatt_block_indexes: tuple[int, ...]

    mlp_matrices: ClassVar[int] = 3
    num_position_embeddings: ClassVar[int] = 0
    deepstack_visual_indexes: ClassVar[tuple[int, ...]] = ()
    merger_linear: ClassVar[tuple[str, str]] = ("mlp.0", "mlp.2")

    @property
    def merger_parameters(self) -> int:
        """Matrices and biases; the norm is no more than a weight over h."""
        return self.merger_matrix + self.merge * self.hidden_size + self.out_hidden_size + self.hidden_size

    @property
    def block_linear(self) -> dict[str, tuple[int, int]]:
        """Name of a block's linear layer -> (inputs, outputs)."""
        h, i = self.hidden_size, self.intermediate_size
        return {
            "attn.qkv": (h, 3 * h),
            "attn.proj": (h, h),
            "mlp.gate_proj": (h, i),
            "mlp.up_proj": (h, i),
            "mlp.down_proj": (i, h),
        }

    @property
    def block_parameters(self) -> int:
        """The matrices of a block, biases of all of them, two norms (weight alone)."""
        return self.block_matrix + 4 * self.hidden_size + 2 * self.intermediate_size + 3 * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights; the patch embedding has no bias."""
        return self.patch_matrix + self.depth * self.block_parameters + self.merger_parameters

    @property
    def window(self) -> int:
        """Patches of a whole window: its side holds whole decoder tokens."""
        side = self.window_size // self.spatial_merge_size // self.patch_size
        return side**2 * self.merge

    def pairs(self, patches: float) -> float:
        """All pairs in the full blocks; elsewhere those of whole windows (cut ones at an image's edge have fewer)."""
        full = sum(index < self.depth for index in self.fullatt_block_indexes) / self.depth
        return patches * (full * patches + (1 - full) * min(self.window, patches))

    @property
    def block_activations(self) -> int:
        """Elements that one block writes per patch: as VisionShape's, and 4 i: gate, up, SiLU of gate, product."""
        return 12 * self.hidden_size + 4 * self.intermediate_size
