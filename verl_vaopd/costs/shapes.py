"""Parameters, FLOPs and bytes of a Qwen-VL model, in closed form from its config; its parts: costs/text.py, vision.py.

Counting rules: a multiply-add is 2 FLOPs, so a matrix of n weights costs 2 n per token it is applied to. Element-wise
work (norms, activations, rotary embeddings, softmax) is bound by memory: its bytes are counted, its FLOPs are not.
 Legend: h hidden, i intermediate, d head size, V rows of the head.
"""

from dataclasses import dataclass, fields
from functools import cached_property

from verl_vaopd.costs.text import BF16, FP32, BiasedTextShape, ExpertsTextShape, TextShape
from verl_vaopd.costs.vision import Tower, VisionShape, WindowedVisionShape

__all__ = ["BF16", "FP32", "ModelShape", "TextShape", "Tower", "VisionShape"]

SHAPES = {
    "qwen3_vl": (TextShape, VisionShape),
    "qwen3_vl_moe": (ExpertsTextShape, VisionShape),
    "qwen2_5_vl": (BiasedTextShape, WindowedVisionShape),
}
"""Model type -> its decoder and its tower."""


@dataclass(frozen=True)
class ModelShape:
    """A model as far as its cost goes."""

    text: TextShape
    vision: Tower
    tied: bool

    @classmethod
    def of(cls, config) -> "ModelShape":
        """Read a ``config.json`` as a dictionary, or a config of transformers.

        Raises:
            ValueError: a model type that no shape here is of, a field that is missing, or layers of several kinds.
        """
        if not isinstance(config, dict):
            config = config.to_dict()
        model_type = config.get("model_type")
        if model_type not in SHAPES:
            raise ValueError(f"model type {model_type!r} cannot be planned, only {', '.join(SHAPES)}")
        text_shape, vision_shape = SHAPES[model_type]
        text, vision = dict(config.get("text_config") or config), dict(config["vision_config"])
        if model_type == "qwen2_5_vl":  # as published: the decoder's fields beside vision_config, old names
            if {"hidden_size", "num_attention_heads"} <= text.keys():
                text.setdefault("head_dim", text["hidden_size"] // text["num_attention_heads"])
            vision.setdefault("in_channels", vision.get("in_chans", 3))
        if text.get("mlp_only_layers") or text.get("decoder_sparse_step", 1) != 1:
            raise ValueError("a model whose layers are partly dense (mlp_only_layers, decoder_sparse_step) has no plan")
        if text_shape is ExpertsTextShape and "num_experts" not in text:
            text["num_experts"] = text.get("num_local_experts")
        for name in ("deepstack_visual_indexes", "fullatt_block_indexes"):
            if name in vision:
                vision[name] = tuple(vision[name])
        return cls(
            text=_read(text_shape, text),
            vision=_read(vision_shape, vision),
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
        scores = pairs * self.text.score_flops + images * self.vision.pairs(patches) * self.vision.score_flops
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
            (self.vision, vision, images * patches, images * self.vision.pairs(patches)),
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
