"""Parameters, FLOPs and bytes of a Qwen3-VL model, in closed form from its config.

Counting rules: a multiply-add is 2 FLOPs, so a matrix of n weights costs 2 n per token it is applied to. Element-wise
work (norms, activations, rotary embeddings, softmax) is bound by memory: its bytes are counted, its FLOPs are not.
 Legend: h hidden, i intermediate, d head size, V rows of the head.
"""

from dataclasses import dataclass, fields
from functools import cached_property

BF16, FP32 = 2, 4  # bytes


@dataclass(frozen=True)
class TextShape:
    """The decoder; fields as in ``text_config``."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int

    @property
    def kv_width(self) -> int:
        """Width of all keys, and of all values, of a token."""
        return self.num_key_value_heads * self.head_dim

    @property
    def layer_matrix(self) -> int:
        """Weights of one layer's matrices: q and o [h, heads d], k and v [h, kv heads d], gate, up and down [h, i]."""
        attention = 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        return self.hidden_size * (attention + 3 * self.intermediate_size)

    @property
    def layer_parameters(self) -> int:
        """The matrices, two norms over h, and the norms of q and k over d. There are no biases."""
        return self.layer_matrix + 2 * self.hidden_size + 2 * self.head_dim

    @property
    def linear_flops(self) -> int:
        """FLOPs per token of one forward through all layers, without attention scores and head."""
        return 2 * self.num_hidden_layers * self.layer_matrix

    @property
    def recomputed_flops(self) -> int:
        """FLOPs per token that checkpointed layers run again: all but the down projection, whose result none needs."""
        return self.linear_flops - 2 * self.num_hidden_layers * self.hidden_size * self.intermediate_size

    @property
    def score_flops(self) -> int:
        """FLOPs per pair of a query and a key it attends to, all layers: 2 d per head for q k, 2 d for weight x v.

        A causal sequence of S tokens has S (S + 1) / 2 pairs, about half of the S * S of full attention.
        """
        return 4 * self.num_hidden_layers * self.num_attention_heads * self.head_dim

    @property
    def head_flops(self) -> int:
        """FLOPs per token of one product with the head [V, h]."""
        return 2 * self.vocab_size * self.hidden_size

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values per token, all layers, bf16."""
        return 2 * BF16 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    @property
    def layer_activations(self) -> int:
        """Elements that one layer writes per token when nothing but attention is fused.

        6 h: two norms, the outputs of attention and MLP, two residual sums. 4 heads d and 4 kv heads d: q, k, v; q and
        k after their norms; q and k rotated; the attention's result. 4 i: gate, up, SiLU of gate, their product.
        """
        heads = self.num_attention_heads + self.num_key_value_heads
        return 6 * self.hidden_size + 4 * heads * self.head_dim + 4 * self.intermediate_size


@dataclass(frozen=True)
class VisionShape:
    """The vision tower; fields as in ``vision_config``. A token of the decoder is spatial_merge_size ** 2 patches."""

    depth: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    spatial_merge_size: int
    num_position_embeddings: int
    out_hidden_size: int
    deepstack_visual_indexes: tuple[int, ...]

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
        """Weights of one block's matrices: q, k, v and output [h, h], two of the MLP [h, i]."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size

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
    def block_parameters(self) -> int:
        """The matrices of a block, their biases, two norms (weight and bias)."""
        return self.block_matrix + 5 * self.hidden_size + self.intermediate_size + 4 * self.hidden_size

    @property
    def parameters(self) -> int:
        """All weights, with biases, norms and position embeddings."""
        h, merged = self.hidden_size, self.merge * self.hidden_size
        embed = self.patch_matrix + h + self.num_position_embeddings * h
        merger = self.merger_matrix + merged + self.out_hidden_size
        # The last merger norms single patches, the deepstack mergers norm m of them together.
        norms = 2 * h + len(self.deepstack_visual_indexes) * 2 * merged
        return embed + self.depth * self.block_parameters + self.mergers * merger + norms

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
        """FLOPs per pair of patches of one image, all blocks; attention is not causal: n patches have n * n pairs."""
        return 4 * self.depth * self.hidden_size

    @property
    def block_activations(self) -> int:
        """Elements that one block writes per patch: 6 h as in the decoder, q, k, v, q and k rotated, result; 2 i."""
        return 12 * self.hidden_size + 2 * self.intermediate_size


@dataclass(frozen=True)
class ModelShape:
    """A Qwen3-VL model as far as its cost goes."""

    text: TextShape
    vision: VisionShape
    tied: bool

    @classmethod
    def of(cls, config) -> "ModelShape":
        """Read a ``config.json`` as a dictionary, or a ``Qwen3VLConfig``.

        Raises:
            ValueError: not a Qwen3-VL config, or a field is missing.
        """
        if not isinstance(config, dict):
            config = config.to_dict()
        if config.get("model_type") != "qwen3_vl":
            raise ValueError(f"model type {config.get('model_type')!r} cannot be planned, only 'qwen3_vl'")
        vision = dict(config["vision_config"])
        vision["deepstack_visual_indexes"] = tuple(vision["deepstack_visual_indexes"])
        return cls(
            text=_read(TextShape, config["text_config"]),
            vision=_read(VisionShape, vision),
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameter counts by part; a tied head is counted in the embedding."""
        table = self.text.vocab_size * self.text.hidden_size
        return {
            "vision": self.vision.parameters,
            "embedding": table,
            "layers": self.text.num_hidden_layers * self.text.layer_parameters,
            "norm": self.text.hidden_size,
            "head": 0 if self.tied else table,
        }

    @property
    def total(self) -> int:
        """All parameters, tied weights once."""
        return sum(self.parameters.values())

    @property
    def head_size(self) -> int:
        """Weights of the head [V, h], its own or the embedding's."""
        return self.text.vocab_size * self.text.hidden_size

    def forward_flops(self, tokens: float, pairs: float, images: float, patches: float) -> tuple[float, float]:
        """One forward without the head: FLOPs of the (linear layers, attention scores).

        Args:
            tokens: decoder tokens; pairs: query-key pairs of the decoder; images, each of ``patches`` patches.
        """
        linear = tokens * self.text.linear_flops + images * patches * self.vision.linear_flops
        scores = pairs * self.text.score_flops + images * patches**2 * self.vision.score_flops
        return linear, scores

    def training_flops(
        self, tokens: float, pairs: float, images: float, patches: float, learns=None
    ) -> tuple[float, float]:
        """Forward and backward with activation checkpointing, without the head; arguments as of :meth:`forward_flops`.

        Linear: the forward; in backward a product of its size for the gradient of the weights and one for that of the
        input (pixels have none); what checkpointing recomputes. Scores: the forward's 2 products, twice, and the 5 of
        flash attention's backward (q k again, then the gradients of v, weights, q and k).

        ``learns``: a :class:`~verl_vaopd.costs.trained.Learns` of what is trained; None: everything.
        """
        text = vision = (True, True)  # is there a backward, are there gradients of weights
        if learns is not None:
            text = learns.text_backward, learns.text_weights
            vision = learns.vision_backward, learns.vision_weights
        linear = scores = 0.0
        for shape, (backward, weights), count, score_pairs in (
            (self.text, text, tokens, pairs),
            (self.vision, vision, images * patches, images * patches**2),
        ):
            products = 1 + backward + weights
            linear += count * (products * shape.linear_flops + backward * shape.recomputed_flops)
            scores += score_pairs * shape.score_flops * (2 + backward * (2 + 5)) / 2
        pixels = images * patches * 2 * self.vision.patch_matrix * vision[0]
        return linear - pixels, scores

    def activations(self, tokens: float, patches: float) -> float:
        """Elements written by one forward of ``tokens`` decoder tokens and ``patches`` patches, all layers."""
        text = self.text.num_hidden_layers * self.text.layer_activations
        return tokens * text + patches * self.vision.depth * self.vision.block_activations


def _read(shape, config: dict):
    missing = [field.name for field in fields(shape) if field.name not in config]
    if missing:
        raise ValueError(f"the config lacks {', '.join(missing)}, needed for {shape.__name__}")
    return shape(**{field.name: config[field.name] for field in fields(shape)})
