"""What the two engines hold on one GPU at once, part by part, in bytes, at the moments at which they hold most.

Read off the code that runs (transformers' layers in bf16 with their norms in float32, checkpointing, FSDP2, the fused
losses) and held against it by ``python -m benchmarks.plan_memory``, which counts live tensors of the real engines.
 Legend, per token or patch: h hidden, i intermediate, q and kv width of queries and of keys.
"""

from dataclasses import dataclass

from verl_vaopd.costs.shapes import BF16, FP32, ModelShape, TextShape, VisionShape

BLOCK_ROWS = 64  # rows whose float32 softmaxes the losses hold at a time
CAST_ROWS = 8192  # rows of the head whose gradient is cast at a time
COPIES = 4  # of the teacher's hidden states on the GPU: handed over, a column, the mini-batch's, its micro-batches'

Parts = dict[str, float]


@dataclass(frozen=True)
class MicroBatch:
    """What one forward runs on one GPU, all views counted."""

    tokens: float
    """Of the decoder."""
    patches: float
    """Of the vision tower."""
    rows: float
    """Response tokens, whose hidden states meet the head."""
    keys: float = 0
    """Keys copied for responses that share a prompt: each response's own and its prompt's."""


def fullest(moments: dict[str, Parts]) -> Parts:
    """The parts of the moment at which most is held."""
    return max(moments.values(), key=lambda parts: sum(parts.values()))


def layer_saved(text: TextShape) -> int:
    """Per token: what a layer saves for its backward.

    Two norms of 8 h (input in float32, normalised, result), q and k normed in float32 and rotated, the attention's
    result as it comes and in one piece, v, and 8 i: gate, SiLU of gate, up, their product.
    """
    q, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    return 16 * text.hidden_size + 12 * q + 10 * kv + 8 * text.intermediate_size


def layer_backward(text: TextShape) -> int:
    """Per token: gradients beside the saved, where they are most: of the result, and two of 2 i in the MLP."""
    return 2 * text.hidden_size + 4 * text.intermediate_size


def layer_forward(text: TextShape) -> int:
    """Per token, without gradient: embeddings, a layer's input, a copy of it with the image's features, residual and
    norm, and what the MLP holds (6 i where it is dense)."""
    return 10 * text.hidden_size + text.mlp_forward_bytes


def block_saved(vision: VisionShape) -> int:
    """Per patch: two norms of 2 h and their inputs, q, k, v, both rotated, attention's result twice, 4 i of the MLP.
    Of a gated one: two norms of 8 h and 8 i, as in the decoder."""
    if vision.mlp_matrices == 3:
        return 30 * vision.hidden_size + 8 * vision.intermediate_size
    return 22 * vision.hidden_size + 4 * vision.intermediate_size


def block_backward(vision: VisionShape) -> int:
    """Per patch: the most while a block is run again and walked back, its input not counted; gated: as in the decoder,
    beside the saved 2 h and 4 i of gradients."""
    if vision.mlp_matrices == 3:
        return block_saved(vision) + 2 * vision.hidden_size + 4 * vision.intermediate_size
    return 20 * vision.hidden_size + 6 * vision.intermediate_size


def block_forward(vision: VisionShape) -> int:
    """Per patch, without gradient: q and k are rotated in float32, the embedding of positions waits in float32."""
    return 38 * vision.hidden_size


def pixel_bytes(vision: VisionShape) -> int:
    """Per patch: as it comes (float32), and in bf16."""
    return (FP32 + BF16) * vision.patch_size**2 * vision.temporal_patch_size * vision.in_channels


def mergers_saved(vision: VisionShape) -> int:
    """Per patch: norm, first product and GELU of every merger; they are not checkpointed."""
    return 6 * vision.hidden_size * vision.mergers


def features(model: ModelShape, batch: MicroBatch) -> float:
    """The mergers' results, and those that deepstack hands to the layers once more, image token by image token."""
    return BF16 * model.text.hidden_size * (2 * model.vision.mergers - 1) * batch.patches / model.vision.merge


def root_gathered(model: ModelShape) -> float:
    """FSDP's root unit stays gathered: what is in no layer and no block; the head where it is tied to the embedding."""
    vision = model.vision
    root = vision.parameters - vision.depth * vision.block_parameters + model.text.hidden_size
    return BF16 * (root + model.head_size if model.tied else root - vision.num_position_embeddings * vision.hidden_size)


def head_gathered(model: ModelShape) -> float:
    """Beside the root while the head is in use: as gathered, and as laid out, where it has a unit of its own; else what
    the last layer left."""
    return 2 * BF16 * (model.text.layer_parameters if model.tied else model.head_size)


def teacher_moments(teacher: ModelShape, batch: MicroBatch, logits_rows: int, whole: bool) -> dict[str, Parts]:
    """A forward without gradient, less what stays (shards, hidden states of other micro-batches).

    Args:
        logits_rows: of a chunk; whole: two chunks of logits, for the KL between the views.
    """
    text, vision = teacher.text, teacher.vision
    root, pixels = root_gathered(teacher), pixel_bytes(vision) * batch.patches
    logits = (1 + whole) * (BF16 * logits_rows + FP32 * BLOCK_ROWS) * text.vocab_size
    image = {"pixels": pixels, "image features": features(teacher, batch)}
    return {
        "root": {  # as gathered, and as laid out
            "gathered teacher weights": 2 * root + 2 * BF16 * vision.block_parameters,
            "activations": BF16 * text.hidden_size * batch.tokens,
            "pixels": pixels,
        },
        "vision tower": {
            "gathered teacher weights": root + 2 * BF16 * vision.block_parameters,
            "activations": block_forward(vision) * batch.patches + BF16 * text.hidden_size * batch.tokens,
            **image,
        },
        "decoder": {
            "gathered teacher weights": root + 2 * BF16 * text.layer_parameters,
            "activations": layer_forward(text) * batch.tokens,
            **image,
        },
        "head": {
            "gathered teacher weights": root + head_gathered(teacher),
            # A head with a unit of its own is most while it is gathered: the rows are not yet copied for it.
            "activations": BF16 * text.hidden_size * (2 * batch.tokens + (1 + teacher.tied) * batch.rows),
            # The last layer is there still while the head is gathered, before there are logits.
            "chunk buffers": max(logits, BF16 * text.layer_parameters),
            **image,
        },
    }


@dataclass(frozen=True)
class Loss:
    """What the loss on the student's rows needs."""

    distils: bool
    """A divergence from the teacher; else a loss on the student's own log-probabilities."""
    chunk_rows: int
    rewarded: bool = False
    """A loss on the log-probabilities stands beside the divergence."""
    held_logits: bool = False
    """Logits are held whole, as in usual implementations."""

    def parts(self, student: ModelShape, rows: float) -> Parts:
        V, head = student.text.vocab_size, student.head_size
        if self.held_logits:
            return {
                "student logits and their gradient": 2 * BF16 * rows * V,
                "chunk buffers": 3 * FP32 * self.chunk_rows * V,
            }
        chunk = BF16 * min(self.chunk_rows, rows) * V
        summed = FP32 * head + BF16 * CAST_ROWS * student.text.hidden_size if rows > self.chunk_rows else 0
        if self.distils and not self.rewarded:
            chunks = max(2 * chunk - BF16 * head, 0)  # both models' are freed before the sum over chunks is cast
        else:
            chunks = chunk
        return {
            "chunk buffers": chunks + (2 if self.distils else 3) * FP32 * BLOCK_ROWS * V,
            "gradient of the head": summed + (1 + self.rewarded) * BF16 * head,
            "hidden states of the rows": 2 * BF16 * student.text.hidden_size * rows,
        }


def student_moments(student: ModelShape, batch: MicroBatch, checkpointing: bool, loss: Loss) -> dict[str, Parts]:
    """Forward, loss and backward, less what stays (shards, the teacher's head and hidden states)."""
    text, vision = student.text, student.vision
    root, layer, block = root_gathered(student), text.layer_parameters, vision.block_parameters
    keys = 2 * BF16 * text.kv_width * batch.keys  # and values
    one_layer = layer_saved(text) * batch.tokens + keys
    if checkpointing:
        kept = {"layer inputs kept": BF16 * text.hidden_size * text.num_hidden_layers * batch.tokens}
        blocks = BF16 * vision.hidden_size * (vision.depth + 1)
    else:
        kept = {"activations of all layers": text.num_hidden_layers * one_layer}
        blocks = vision.depth * block_saved(vision)
    image = {
        "vision tower kept": (blocks + mergers_saved(vision)) * batch.patches,
        "pixels": pixel_bytes(vision) * batch.patches,
    }
    deepstack = (vision.mergers - 1) * batch.patches / vision.merge  # features that are added to layers
    reduced = FP32 * (layer if student.tied else max(layer, student.head_size))  # the unit before, being reduced
    tied_head = BF16 * student.head_size if student.tied else 0  # its gradient waits for the embedding's
    moments = {
        "loss": {
            "gathered weights": root + head_gathered(student),
            "final norm": 8 * text.hidden_size * batch.tokens,
            "image features": features(student, batch),
            **loss.parts(student, batch.rows),
        },
        "decoder": {
            "gathered weights": root + 2 * BF16 * layer,
            "gradients on their way": tied_head + reduced + BF16 * text.hidden_size * text.intermediate_size,
            "one layer": one_layer * checkpointing + layer_backward(text) * batch.tokens,
            "image features": BF16 * text.hidden_size * deepstack,
        },
        "vision tower": {
            "gathered weights": root + 2 * BF16 * block,
            "gradients on their way": tied_head + FP32 * layer + BF16 * block,
            "one block": (block_backward(vision) if checkpointing else 6 * vision.intermediate_size) * batch.patches,
            "gradients of embeddings": BF16 * text.hidden_size * (batch.tokens + deepstack),
        },
        "embedding": {
            "gathered weights": root if student.tied else root + 2 * BF16 * student.head_size,
            "gradients on their way": root + 2 * tied_head if student.tied else (BF16 + FP32) * student.head_size,
        },
    }
    for name in ("loss", "decoder"):
        moments[name] |= kept | image
    moments["vision tower"] |= image
    return moments


def without_vision_backward(moments: dict[str, Parts], student: ModelShape, batch: MicroBatch) -> dict[str, Parts]:
    """:func:`student_moments` where the vision tower is not walked back: of it the mergers' alone is kept."""
    found = {name: dict(parts) for name, parts in moments.items()}
    for name in ("loss", "decoder"):
        found[name]["vision tower kept"] = mergers_saved(student.vision) * batch.patches
    found["vision tower"] = {
        "gathered weights": root_gathered(student) + 2 * BF16 * student.vision.block_parameters,
        "one block": block_forward(student.vision) * batch.patches,
        "pixels": pixel_bytes(student.vision) * batch.patches,
    }
    return found
