"""Seconds of a vLLM replica, by hand and against the roofline of a step."""

from dataclasses import replace

import numpy as np
import pytest

from tests.costs.test_step import DEVICE, LOAD, STUDENT, step
from verl_vaopd.costs.assumptions import Assumptions
from verl_vaopd.costs.generation import decode, prefill
from verl_vaopd.planning.replica import Replica

ASSUMED = Assumptions(compute=0.5, hbm=0.5, decode_latency=7)


def replica(device=DEVICE, gpus=1) -> Replica:
    return Replica(STUDENT, device, ASSUMED, LOAD.prompt_tokens, LOAD.image_tokens, gpus)


def test_a_decoding_step_reads_the_weights_once_and_the_keys_of_those_left():
    fast = replace(DEVICE, bf16_flops=1e30)  # memory decides
    weights = 2 * (STUDENT.total - STUDENT.parameters["vision"])
    # Prompts of 8, the second has 4 already. Step 1: 9 + 13 keys; then the second alone: 14, 15.
    keys = np.array([22, 14, 15]) * STUDENT.text.kv_bytes
    expected = np.cumsum((weights + keys) / (5 * 0.5) + 7)
    np.testing.assert_allclose(replica(fast).decoding(np.array([1, 3]), np.array([0, 4])), expected)
    half = np.cumsum((weights + keys) / 2 / (5 * 0.5) + 7)
    np.testing.assert_allclose(replica(fast, gpus=2).decoding(np.array([1, 3]), np.array([0, 4])), half)


def test_where_all_answers_are_equal_it_is_the_roofline_of_a_step():
    load = replace(LOAD, response_mean=5)
    whole = step(workload=load, compute=0.5, hbm=0.5, decode_latency=7)
    seconds = replica().decoding(np.full(4, 5), np.zeros(4, dtype=int))
    assert len(seconds) == 5
    assert seconds[-1] == pytest.approx(decode(whole).seconds(DEVICE, ASSUMED))
    assert replica().prefill(2, np.zeros(0)) == pytest.approx(prefill(whole).seconds(DEVICE, ASSUMED))


def test_interrupted_answers_are_prefilled_behind_their_prompt():
    slow = replace(DEVICE, hbm=1e30)  # FLOPs decide
    text = STUDENT.text
    more = replica(slow).prefill(1, np.array([3])) - replica(slow).prefill(1, np.zeros(0))
    # 3 tokens, which attend to 9 + 10 + 11 keys.
    assert more == pytest.approx((3 * text.linear_flops + 30 * text.score_flops) / (10 * 0.5))
    assert replica().prefill(0, np.zeros(0)) == 0
