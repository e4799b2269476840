"""Positions, layouts and the single vision pass, against transformers' own forward."""

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from tests.random_models import VOCAB_SIZE, Prompts, make_checkpoint, plain_logits
from verl_vaopd.model.families import family_of
from verl_vaopd.model.families.patch_grid import mrope_positions
from verl_vaopd.model.forward import install_forward
from verl_vaopd.model.packing import collate, siblings
from verl_vaopd.model.row import Row
from verl_vaopd.student.engine import as_sampled


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
        assert torch.equal(family_of(model.config).positions(row.input_ids, row.images), expected[:, 0])


def test_positions_by_hand():
    # text text [2 x 3 merged grid] text: the image starts at 2 and takes max(2, 3) = 3 positions, so the text after it
    # stands at 5.
    ids = torch.tensor([1, 2, 90, 90, 90, 90, 90, 90, 3])
    positions = mrope_positions(ids, torch.tensor([[1, 4, 6]]), image_token_id=90, merge=2)
    assert positions.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 5], [0, 1, 2, 2, 2, 3, 3, 3, 5], [0, 1, 2, 3, 4, 2, 3, 4, 5]]


@pytest.mark.parametrize("grid", [[[1, 4, 4]], [[1, 4, 6], [1, 2, 2]], None])
def test_image_tokens_that_do_not_match_are_refused(grid):
    ids = torch.tensor([1, 90, 90, 90, 90, 90, 90, 3])  # six image tokens
    with pytest.raises(ValueError, match="image"):
        mrope_positions(ids, torch.tensor(grid) if grid else None, image_token_id=90, merge=2)


def run(model, rows: list[Row]) -> tuple[torch.Tensor, dict]:
    """Logits of all response tokens by this package's forward; and what the vision tower and the layers were given."""
    seen = {"patches": [], "tokens": []}
    hooks = [
        model.model.visual.register_forward_pre_hook(lambda _, args: seen["patches"].append(len(args[0]))),
        model.model.language_model.layers[0].register_forward_pre_hook(
            lambda _, args: seen["tokens"].append(args[0].shape[1])
        ),
    ]
    forward, head_forward, attention = (
        model.forward,
        model.lm_head.forward,
        model.config.text_config._attn_implementation,
    )
    install_forward(model, family_of(model.config))
    try:
        batch = collate(rows, family_of(model.config), "cpu")
        logits = model(**batch.model_inputs, head_fn=lambda hidden, head: hidden @ head.t())
    finally:
        model.forward, model.lm_head.forward = forward, head_forward
        model.config.text_config._attn_implementation = attention
        for hook in hooks:
            hook.remove()
    assert batch.response_ids.tolist() == [i for row in rows for i in row.input_ids[-row.response_length :].tolist()]
    return logits, seen


def test_one_forward_equals_one_forward_a_row(model):
    prompts = Prompts()
    rows = rows_of(prompts)
    with torch.no_grad():
        expected = torch.cat([plain_logits(model, row.input_ids, row.response_length, row.images) for row in rows])
        got, seen = run(model, rows)
    assert (got - expected).abs().max() < 1e-4  # logits of size 30
    # Twelve rows, but the vision tower saw the patches of three images: 16, 24 and 8; and the layers three prompts.
    assert seen["patches"] == [16 + 24 + 8]
    prompt_tokens = sum(len(row.input_ids) - row.response_length for row in rows[:3])
    assert seen["tokens"] == [prompt_tokens + sum(row.response_length for row in rows)]


def test_order_and_company_of_rows_do_not_matter(model):
    rows = rows_of(Prompts())
    with torch.no_grad():
        together, _ = run(model, rows)
        for order in (list(range(11, -1, -1)), [5, 2, 8]):
            got, _ = run(model, [rows[index] for index in order])
            pieces = together.split([row.response_length for row in rows])
            assert (got - torch.cat([pieces[index] for index in order])).abs().max() < 1e-4


def test_rows_that_differ_in_prompt_or_image_share_nothing():
    rows = rows_of(Prompts())
    assert siblings(rows) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    other_image = Row(rows[0].input_ids, rows[0].response_length, rows[1].images)
    other_prompt = Row(rows[0].input_ids.clone(), rows[0].response_length, rows[0].images)
    other_prompt.input_ids[0] += 1
    assert siblings([rows[0], other_image, other_prompt]) == [[0], [1], [2]]


def test_empty_response_is_refused(model):
    with pytest.raises(ValueError, match="row 0"):
        collate([Row(torch.tensor([1, 2]), 0, None)], family_of(model.config), "cpu")


def test_log_probs_as_sampled_leave_the_placeholders_out():
    torch.manual_seed(0)
    hidden, head, ids = torch.randn(5, 8), torch.randn(VOCAB_SIZE + 12, 8), torch.randint(0, 90, (5,))
    logits = (hidden @ head.t())[:, :VOCAB_SIZE]
    over_all = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    logits[:, [90, 91]] = -torch.inf  # what the host does in vLLM
    expected = logits.log_softmax(-1).gather(1, ids[:, None]).squeeze(1)
    assert not torch.allclose(over_all, expected, atol=1e-4)
    assert torch.allclose(as_sampled(over_all, hidden, head, ids, [90, 91]), expected, atol=1e-5)
