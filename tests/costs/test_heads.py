"""Tensor parallelism that vLLM could not load the student with."""

from dataclasses import replace

import pytest

from tests.costs.test_shapes import TEXT
from verl_vaopd.costs.heads import check_heads

STUDENT = replace(TEXT, num_attention_heads=24, num_key_value_heads=4)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 12, 24])
def test_heads_that_are_divided(ranks):
    check_heads(STUDENT, ranks)  # 8 GPUs: 3 heads each, and 4 key-value heads on two each


@pytest.mark.parametrize("ranks, says", [(5, "24 attention heads"), (3, "4 key-value heads"), (6, "4 key-value heads")])
def test_heads_that_are_not_are_named(ranks, says):
    with pytest.raises(ValueError, match=f"tensor_model_parallel_size={ranks}: must divide the student's {says}"):
        check_heads(STUDENT, ranks)
