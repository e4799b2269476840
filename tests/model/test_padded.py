"""The padded layout by hand; what it computes is held against plain forwards in tests/student/test_update_path.py."""

import pytest
import torch

from tests.random_models import Prompts, load, make_checkpoint
from verl_vaopd.model.families import family_of
from verl_vaopd.model.padded import check_padded, collate_padded, install_padded_forward, plan_padded
from verl_vaopd.model.row import Row


def rows(*lengths: int) -> list[Row]:
    return [Row(torch.arange(1, length + 1), 1, None) for length in lengths]


def test_padding_counts_against_the_budget():
    # By length: 6, 5, 3, 2. Two rows of 6 exceed a budget of 11, so 6 runs alone; 5 and 3 are two rows of 5; 2 is left.
    assert plan_padded(rows(3, 6, 2, 5), budget=11) == [[1], [3, 0], [2]]
    assert plan_padded(rows(9, 2), budget=4) == [[0], [1]]  # a row above the budget runs alone
    assert sorted(map(sorted, plan_padded(rows(2, 2, 2), budget=99, at_least=2))) == [[0, 1], [2]]


def test_rows_without_an_image_are_joined_by_a_blank_one_that_nobody_reads(tmp_path):
    make_checkpoint(tmp_path, 64, 2, head_rows=112, tied=True, seed=0, family="qwen2_5_vl")
    model = load(tmp_path)
    family = family_of(model.config)
    text = [Row(ids, length, None) for uid, ids, length in Prompts().rows if uid == "text"]
    batch = collate_padded(text, family, "cpu", family.blank_row(None))
    assert len(batch.model_inputs["input_ids"]) == len(text) + 1
    longest = batch.model_inputs["input_ids"].shape[1]
    assert int(batch.model_inputs["row_index"].max()) < len(text) * longest
    install_padded_forward(model)
    model(**batch.model_inputs, head_fn=lambda hidden, head: hidden @ head.t()).sum().backward()
    tower = [parameter.grad for parameter in model.model.visual.parameters()]
    assert all(grad is not None and not grad.any() for grad in tower)  # walked, at weight zero


@pytest.mark.parametrize("family, kinds", [("gemma3", ["token_type_ids"]), ("llava_onevision", [])])
def test_a_model_is_told_which_tokens_are_an_images_if_it_asks(tmp_path, family, kinds):
    make_checkpoint(tmp_path, 64, 2, head_rows=112, tied=True, seed=0, family=family)
    model = load(tmp_path)
    install_padded_forward(model)
    assert model.model.kinds == kinds


def test_settings_that_the_padded_layout_does_not_follow():
    check_padded("packed", "flash_attention_2", 2)
    check_padded("padded", "auto", 1)
    with pytest.raises(ValueError, match="attn_implementation='varlen'"):
        check_padded("padded", "varlen", 1)
    with pytest.raises(ValueError, match="ulysses_sequence_parallel_size=2"):
        check_padded("padded", "sdpa", 2)
