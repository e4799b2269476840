"""What the engines hold, by hand on small shapes; tests/planning/test_measured.py has it against the engines."""

from dataclasses import replace

from tests.costs.test_shapes import TEXT, VISION
from verl_vaopd.costs import held
from verl_vaopd.costs.held import Loss, MicroBatch, fullest, student_moments, teacher_moments
from verl_vaopd.costs.shapes import ModelShape

TIED, UNTIED = (ModelShape(TEXT, VISION, tied=tied) for tied in (True, False))
BATCH = MicroBatch(tokens=10, patches=16, rows=5, keys=7)
LOSS = Loss(distils=True, chunk_rows=8)


def test_bytes_per_token_and_patch():
    # h 4, i 6, queries 2 x 3, keys 1 x 3
    assert held.layer_saved(TEXT) == 16 * 4 + 12 * 6 + 10 * 3 + 8 * 6
    assert held.layer_backward(TEXT) == 2 * 4 + 4 * 6
    assert held.layer_forward(TEXT) == 10 * 4 + 6 * 6
    # h 4, i 5; two mergers; a patch has 3 x 2 x 2 x 2 numbers
    assert held.block_saved(VISION) == 22 * 4 + 4 * 5 and held.block_backward(VISION) == 20 * 4 + 6 * 5
    assert held.block_forward(VISION) == 38 * 4
    assert held.mergers_saved(VISION) == 6 * 4 * 2 and held.pixel_bytes(VISION) == 6 * 24
    # 4 tokens of 4 numbers in bf16: two mergers' results, the one that deepstack adds once more
    assert held.features(TIED, BATCH) == 2 * 4 * 4 * (2 + 1)


def test_what_fsdp_keeps_gathered():
    # patch embedding 96 + 4, positions 9 x 4, mergers 2 x 340 with norms 8 + 32, the decoder's norm 4; the head 10 x 4
    assert held.root_gathered(TIED) == 2 * (100 + 36 + 720 + 4 + 40)
    assert held.root_gathered(UNTIED) == 2 * (100 + 720 + 4)  # embeddings and head are units of their own
    assert held.head_gathered(TIED) == 2 * 2 * TEXT.layer_parameters
    assert held.head_gathered(UNTIED) == 2 * 2 * 40


def test_moments_of_the_teacher():
    moments = teacher_moments(UNTIED, BATCH, logits_rows=8, whole=False)
    root, image = 1648, {"pixels": 144 * 16, "image features": 96}
    layer, block = 158, 145
    assert moments["vision tower"] == {
        "gathered teacher weights": root + 4 * block, "activations": 152 * 16 + 2 * 4 * 10, **image,
    }  # fmt: skip
    assert moments["decoder"] == {"gathered teacher weights": root + 4 * layer, "activations": 76 * 10, **image}
    assert moments["head"] == {
        "gathered teacher weights": root + 160,
        "activations": 2 * 4 * (2 * 10 + 5),  # the head is gathered by itself: its rows are not yet copied
        "chunk buffers": (2 * 8 + 4 * 64) * 10,  # more than the last layer, 2 * 158
        **image,
    }
    both = teacher_moments(UNTIED, BATCH, logits_rows=8, whole=True)["head"]
    assert both["chunk buffers"] == 2 * moments["head"]["chunk buffers"]
    assert moments["root"] == {
        "gathered teacher weights": 2 * root + 4 * block, "activations": 2 * 4 * 10, "pixels": 144 * 16,
    }  # fmt: skip
    assert fullest(moments) == moments["vision tower"]  # 7140 in all, 7128 while the head is gathered


def test_moments_of_the_student():
    moments = student_moments(TIED, BATCH, checkpointing=True, loss=LOSS)
    root, layer, block, head = 1800, 158, 145, 80
    image = {"vision tower kept": (2 * 4 * 3 + 48) * 16, "pixels": 144 * 16}
    kept = {"layer inputs kept": 2 * 4 * 2 * 10, **image}
    assert moments["loss"] == {
        "gathered weights": root + 4 * layer,
        "final norm": 8 * 4 * 10,
        "image features": 96,
        "chunk buffers": 2 * 2 * 5 * 10 - head + 2 * 4 * 64 * 10,
        "gradient of the head": head,
        "hidden states of the rows": 2 * 2 * 4 * 5,
        **kept,
    }
    assert moments["decoder"] == {
        "gathered weights": root + 4 * layer,
        "gradients on their way": head + 4 * layer + 2 * 4 * 6,
        "one layer": (214 + 32) * 10 + 4 * 3 * 7,
        "image features": 2 * 4 * 4,
        **kept,
    }
    assert moments["vision tower"] == {
        "gathered weights": root + 4 * block,
        "gradients on their way": head + 4 * layer + 2 * block,
        "one block": 110 * 16,
        "gradients of embeddings": 2 * 4 * (10 + 4),
        **image,
    }
    assert moments["embedding"] == {"gathered weights": root, "gradients on their way": root + 2 * head}


def test_without_checkpointing_every_layer_is_kept():
    moments = student_moments(TIED, BATCH, checkpointing=False, loss=LOSS)
    assert moments["decoder"]["activations of all layers"] == 2 * (214 * 10 + 4 * 3 * 7)
    assert moments["decoder"]["one layer"] == 32 * 10  # gradients alone
    assert moments["vision tower"]["vision tower kept"] == (2 * 108 + 48) * 16


def test_the_gradient_of_a_head_of_its_own_does_not_wait_for_the_embeddings():
    def on_their_way(model):
        return student_moments(model, BATCH, True, LOSS)["decoder"]["gradients on their way"]

    assert on_their_way(TIED) - on_their_way(UNTIED) == 2 * 40
    wide = replace(UNTIED, text=replace(TEXT, vocab_size=100))  # its reduction meets the last layer's backward
    assert on_their_way(wide) - on_their_way(UNTIED) == 4 * (100 * 4 - 158)


def test_losses():
    parts = LOSS.parts(TIED, rows=20)  # three chunks: their sum is in float32
    assert parts["gradient of the head"] == (4 + 2) * 40 + 2 * 8192 * 4
    assert parts["chunk buffers"] == 2 * 2 * 8 * 10 - 80 + 2 * 4 * 64 * 10
    policy = Loss(distils=False, chunk_rows=8).parts(TIED, rows=20)  # one model's logits, formed again in backward
    assert policy["chunk buffers"] == 2 * 8 * 10 + 3 * 4 * 64 * 10
    both = replace(LOSS, rewarded=True).parts(TIED, rows=20)
    assert both["gradient of the head"] == parts["gradient of the head"] + 2 * 40
    held_whole = replace(LOSS, held_logits=True).parts(TIED, rows=20)
    assert held_whole == {"student logits and their gradient": 2 * 2 * 20 * 10, "chunk buffers": 3 * 4 * 8 * 10}
