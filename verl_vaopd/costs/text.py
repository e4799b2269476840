"""Parameters, FLOPs and bytes of a decoder, in closed form; the counting rules are those of costs/shapes.py."""

from dataclasses import dataclass

BF16, FP32 = 2, 4  # bytes


@dataclass(frozen=True)
class TextShape:
    """The decoder of Qwen3-VL; fields as in ``text_config``."""

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
    def attention_matrix(self) -> int:
        """Weights of q and o [h, heads d], k and v [h, kv heads d]."""
        return self.hidden_size * 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim

    @property
    def mlp_width(self) -> int:
        """Numbers between the MLP's matrices, per token."""
        return self.intermediate_size

    @property
    def layer_matrix(self) -> int:
        """Weights of one layer's matrices: attention's; gate, up and down [h, i]."""
        return self.attention_matrix + 3 * self.hidden_size * self.intermediate_size

    @property
    def active_matrix(self) -> int:
        """Of them, those that one token meets."""
        return self.layer_matrix

    @property
    def layer_parameters(self) -> int:
        """The matrices, two norms over h, and the norms of q and k over d. There are no biases."""
        return self.layer_matrix + 2 * self.hidden_size + 2 * self.head_dim

    @property
    def linear_flops(self) -> int:
        """FLOPs per token of one forward through all layers, without attention scores and head."""
        return 2 * self.num_hidden_layers * self.active_matrix

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
        return 6 * self.hidden_size + 4 * heads * self.head_dim + 4 * self.mlp_width

    @property
    def mlp_forward_bytes(self) -> int:
        """Held per token in the MLP of a forward without gradient, bf16: gate, its SiLU and up, or their product."""
        return 3 * BF16 * self.mlp_width

    def unread(self, tokens: float) -> float:
        """Weights of all layers that a forward of ``tokens`` tokens does not read."""
        return 0.0


@dataclass(frozen=True)
class BiasedTextShape(TextShape):
    """The decoder of Qwen2.5-VL: q, k and v have biases and no norms."""

    @property
    def layer_parameters(self) -> int:
        """The matrices, two norms over h, biases of q, k and v."""
        biases = (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_dim
        return self.layer_matrix + 2 * self.hidden_size + biases

    @property
    def layer_activations(self) -> int:
        """Without q and k after norms."""
        normed = (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        return super().layer_activations - normed


@dataclass(frozen=True)
class ExpertsTextShape(TextShape):
    """The decoder of Qwen3-VL-MoE: each layer has E experts of width m, a token meets k."""

    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int

    @property
    def mlp_width(self) -> int:
        return self.num_experts_per_tok * self.moe_intermediate_size

    @property
    def expert_matrix(self) -> int:
        """Weights of one expert: gate, up and down [h, m]."""
        return 3 * self.hidden_size * self.moe_intermediate_size

    @property
    def layer_matrix(self) -> int:
        """Attention's, the router's [E, h], all experts'."""
        return self._outside_experts + self.num_experts * self.expert_matrix

    @property
    def active_matrix(self) -> int:
        """Attention's, the router's, those of the experts that one token meets."""
        return self._outside_experts + self.num_experts_per_tok * self.expert_matrix

    @property
    def _outside_experts(self) -> int:
        return self.attention_matrix + self.num_experts * self.hidden_size

    @property
    def recomputed_flops(self) -> int:
        """Everything: the router's gradient needs what each expert returned."""
        return self.linear_flops

    @property
    def layer_activations(self) -> int:
        """Beside a dense layer's, h on the way to each expert of a token and h from it."""
        return super().layer_activations + 2 * self.num_experts_per_tok * self.hidden_size

    @property
    def mlp_forward_bytes(self) -> int:
        """Beside a dense layer's, 4 h for each expert of a token: its input, its result, weighted, in order."""
        return super().mlp_forward_bytes + 4 * BF16 * self.num_experts_per_tok * self.hidden_size

    def touched(self, tokens: float) -> float:
        """Experts of a layer that a batch of ``tokens`` tokens meets, expected where all are equally likely and tokens
        choose independently: E (1 - (1 - k / E) ** tokens). Real routers are less even, and touch fewer."""
        return self.num_experts * (1 - (1 - self.num_experts_per_tok / self.num_experts) ** tokens)

    def unread(self, tokens: float) -> float:
        return self.num_hidden_layers * (self.num_experts - self.touched(tokens)) * self.expert_matrix
