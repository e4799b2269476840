"""A step of models with experts: what is stored and gathered whole, what a token meets, what decoding reads."""

from dataclasses import replace

import pytest

from tests.costs.test_shapes import EXPERTS, TEXT, VISION, WINDOWED
from tests.costs.test_step import DEVICE, LOAD
from verl_vaopd.costs import held
from verl_vaopd.costs.assumptions import VA_OPD, Assumptions
from verl_vaopd.costs.shapes import ModelShape
from verl_vaopd.costs.step import Step

DENSE, MOE = ModelShape(TEXT, VISION, tied=True), ModelShape(EXPERTS, VISION, tied=True)


def phase(teacher: ModelShape, student: ModelShape, name: str, gpus: int):
    (found,) = (
        each for each in Step(teacher, student, LOAD, VA_OPD, DEVICE, gpus, Assumptions()).phases() if each.name == name
    )
    return found


def test_a_teacher_gathers_all_experts_and_runs_those_that_tokens_meet():
    sparse = phase(MOE, DENSE, "teacher", gpus=2)
    every = ModelShape(replace(EXPERTS, num_experts_per_tok=4), VISION, tied=True)  # a token meets all four
    dense = phase(every, DENSE, "teacher", gpus=2)
    assert sparse.nvlink == dense.nvlink == 2 * MOE.total / 2  # one micro-batch, half of it from the other GPU
    # two views of 30 tokens on 2 GPUs, 2 layers, 2 experts less of 36 weights
    assert dense.flops - sparse.flops == 2 * 30 / 2 * 2 * 2 * (2 * 36)
    assert sparse.memory["teacher weights"] == MOE.total


def test_decoding_reads_the_experts_that_its_sequences_meet():
    # Rollouts of 5, 3, 3, 3 tokens on one GPU: 3 steps of four sequences, 2 of one; 2 bytes a weight
    every = ModelShape(replace(EXPERTS, num_experts_per_tok=4), VISION, tied=True)
    more = phase(DENSE, every, "generation: decode", 1).hbm - phase(DENSE, MOE, "generation: decode", 1).hbm
    # 4 sequences leave 4 * (1 / 2) ** 4 = 0.25 of the experts of a layer, one leaves 2; 2 layers of 36 weights each
    assert more == pytest.approx(2 * (3 * 0.25 + 2 * 2) * 2 * 36)


def test_what_is_held():
    # 10 h as in a dense layer, 6 k m, 8 k h: h 4, k 2, m 3
    assert held.layer_forward(EXPERTS) == 10 * 4 + 6 * 2 * 3 + 8 * 2 * 4
    # a gated block: h 4, i 5
    assert held.block_saved(WINDOWED) == 30 * 4 + 8 * 5
    assert held.block_backward(WINDOWED) == 32 * 4 + 12 * 5
    # no positions, one merger: merger 16 * 16 + 16 * 4 with biases 20, its norm 4, patches 96, the decoder's norm 4
    model = ModelShape(TEXT, WINDOWED, tied=False)
    assert held.root_gathered(model) == 2 * (340 + 4 + 96 + 4)
