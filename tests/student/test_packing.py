"""Positions, layouts and the single vision pass, against transformers' own forward."""

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from tests.random_models import VOCAB_SIZE, Prompts, make_checkpoint, plain_logits
from verl_vaopd.student.engine import as_sampled
from verl_vaopd.student.forward import install_forward
from verl_vaopd.student.packing import Layout, Row, collate, mrope_positions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_checkpoint(path, hidden=64, layers=2, head_rows=112, tied=True, seed=0)
    return Qwen3VLForConditionalGeneration.from_pretrained(path, attn_implementation="sdpa")


def rows_of(prompts: Prompts) -> list[Row]:
    return [Row(ids, length, prompts.original.get(uid)) for uid, ids, length in prompts.rows]


def test_positions_equal_transformers(model):
    for row in rows_of(Prompts()):
        grid = row.images.image_grid_thw if row.images is not None else None
        expected, _ = model.model.get_rope_index(
            row.input_ids[None], (row.input_ids == 90).int()[None], image_grid_thw=grid
        )
        assert torch.equal(mrope_positions(row.input_ids, grid, Layout.of(model.config)), expected[:, 0])


def test_positions_by_hand(model):
    # text text [2 x 3 merged grid] text: the image starts at 2 and takes max(2, 3) = 3 positions, so the text after it
    # stands at 5.
    ids = torch.tensor([1, 2, 90, 90, 90, 90, 90, 90, 3])
    positions = mrope_positions(ids, torch.tensor([[1, 4, 6]]), Layout.of(model.config))
    assert positions.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 5], [0, 1, 2, 2, 2, 3, 3, 3, 5], [0, 1, 2, 3, 4, 2, 3, 4, 5]]


@pytest.mark.parametrize("grid", [[[1, 4, 4]], [[1, 4, 6], [1, 2, 2]], None])
def test_image_tokens_that_do_not_match_are_refused(model, grid):
    ids = torch.tensor([1, 90, 90, 90, 90, 90, 90, 3])  # six image tokens
    with pytest.raises(ValueError, match="image"):
        mrope_positions(ids, torch.tensor(grid) if grid else None, Layout.of(model.config))


@pytest.mark.parametrize("padded", [False, True])
def test_one_forward_equals_one_forward_a_row(model, padded):
    rows = rows_of(Prompts())
    with torch.no_grad():
        expected = torch.cat([plain_logits(model, row.input_ids, row.response_length, row.images) for row in rows])
        calls = []
        hook = model.model.visual.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
        forward, head_forward = model.forward, model.lm_head.forward
        install_forward(model)
        try:
            batch = collate(rows, Layout.of(model.config), "cpu", padded)
            got = model(**batch.model_inputs, head_fn=lambda hidden, head: hidden @ head.t())
        finally:
            model.forward, model.lm_head.forward = forward, head_forward
            hook.remove()
    assert (got - expected).abs().max() < 1e-4  # logits of size 30
    # Twelve rows, but the vision tower ran once, over the patches of three images: 16, 24 and 8.
    assert calls == [16 + 24 + 8]
    assert batch.response_ids.tolist() == [i for row in rows for i in row.input_ids[-row.response_length :].tolist()]


def test_empty_response_is_refused(model):
    with pytest.raises(ValueError, match="row 0"):
        collate([Row(torch.tensor([1, 2]), 0, None)], Layout.of(model.config), "cpu")


def test_log_probs_as_sampled_leave_the_placeholders_out():
    torch.manual_seed(0)
    hidden, head, ids = torch.randn(5, 8), torch.randn(VOCAB_SIZE + 12, 8), torch.randint(0, 90, (5,))
    logits = (hidden @ head.t())[:, :VOCAB_SIZE]
    over_all = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    logits[:, [90, 91]] = -torch.inf  # what the host does in vLLM
    expected = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    assert not torch.allclose(over_all, expected, atol=1e-4)
    assert torch.allclose(as_sampled(over_all, hidden, head, ids, [90, 91]), expected, atol=1e-5)
