"""A GPU's branches of both engines' steps on pretended CUDA tensors, against the same steps on the CPU.

What the pretence leaves out: FSDP2 on CUDA, NCCL, vLLM, and the kernels themselves, whose stand-ins check arguments.
"""

import json
from collections import Counter

import pytest
import torch

from tests.random_models import make_checkpoint
from tests.stack import run_ranks

pytestmark = pytest.mark.slow

USUAL = {
    "response_lengths": [4, 1, 3],
    "prompts": ["one", "two", "text"],
    "micro_batch": None,  # by tokens: siblings together
    "dtype": "bf16",
    "checkpointing": True,
    "kernel": "varlen",
    "settings": {},
    "family": "qwen3_vl",
}
FAMILIES = ("qwen2_5_vl", "qwen2_vl", "glm4v", "internvl")  # experts sort tokens by what the CPU has no integers for
METHODS = {
    "vaopd": {},
    "vaopd, distribution": {"score": "distribution"},
    "vaopd_mass": {"method": "vaopd_mass"},
    "opd": {"method": "opd"},
    "gkd": {"method": "gkd"},
    "offpolicy_kd": {"method": "offpolicy_kd", "answers": "x"},
    "grpo": {"method": "grpo"},
    "grpo_va": {"method": "grpo_va"},
    "papo": {"method": "papo"},
    "self": {"method": "self"},
}
CASES = {name: {**USUAL, "settings": settings} for name, settings in METHODS.items()} | {
    "flash-attn": {**USUAL, "kernel": "flash_attention_2"},
    "sdpa": {**USUAL, "kernel": "sdpa"},
    "sdpa, fp32": {**USUAL, "kernel": "sdpa", "dtype": "fp32"},
    "no checkpointing": {**USUAL, "checkpointing": False},
    "two rows": {**USUAL, "micro_batch": 2},  # of different prompts, with and without an image
    "text only": {**USUAL, "prompts": ["text"], "settings": {"method": "opd"}},
    **{family: {**USUAL, "family": family, "kernel": "sdpa", "dtype": "fp32"} for family in FAMILIES},
    "qwen2_5_vl, varlen": {**USUAL, "family": "qwen2_5_vl"},
}
CALLED = {  # what the layers of text and vision may call; "lower right": a branch
    "varlen": {"varlen", "sdpa flash"},
    "flash_attention_2": {"flash", "sdpa flash"},
    "sdpa": {"sdpa flash", "sdpa flash, lower right"},
    "sdpa, fp32": {"sdpa efficient", "sdpa efficient, lower right"},
}
# Waits in one forward and one backward of a micro-batch, none of them in a layer: ids and weights are checked, tokens
# with a weight are counted, and the driver's sums are read.
TEACHER_WAITS = {"glm4v": 13}  # its tower reads sizes back where it computes
STUDENT_WAITS = {"grpo": (6, 0), "grpo_va": (6, 0), "papo": (10, 1), "glm4v": (20, 10)}
DISTILLATION_WAITS = (7, 1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretend")
    for family in ("qwen3_vl", *FAMILIES):
        make_checkpoint(folder / f"{family}_student", 64, 2, head_rows=112, tied=True, seed=0, family=family)
        make_checkpoint(folder / f"{family}_teacher", 128, 2, head_rows=128, tied=False, seed=1, family=family)
    (folder / "cases.json").write_text(json.dumps(CASES))
    run_ranks("tests.pretend.step", (1,), folder)
    return torch.load(folder / "results.pt", weights_only=False)


@pytest.mark.parametrize("name", CASES)
def test_a_step_on_a_gpu_is_the_cpus_up_to_rounding(results, name):
    gpu, cpu = results[name]["gpu"], results[name]["cpu"]
    loose = CASES[name]["dtype"] == "bf16"
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=0.02 if loose else 1e-5)
    assert gpu["scores"].keys() == cpu["scores"].keys()
    for column, rows in cpu["scores"].items():
        for got, row in zip(gpu["scores"][column], rows, strict=True):
            assert (got - row).abs().max() < (0.1 if loose else 1e-4), column  # nats
    assert gpu["gradients"].keys() == cpu["gradients"].keys()
    flat = [torch.cat([side["gradients"][key].flatten() for key in cpu["gradients"]]) for side in (gpu, cpu)]
    assert torch.cosine_similarity(*flat, dim=0) > (0.998 if loose else 1 - 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_is_on_the_gpu_and_of_its_dtype(results, name):
    gpu, dtype = results[name]["gpu"], {"bf16": torch.bfloat16, "fp32": torch.float32}[CASES[name]["dtype"]]
    assert set(gpu["devices"].values()) <= {"cuda:0"} and gpu["gradient_devices"] == {"cuda:0"}
    hidden = gpu["dtypes"].pop("teacher_hidden", None)
    assert hidden in (dtype, None) and set(gpu["dtypes"].values()) <= {torch.float32}
    assert gpu["gradient_dtypes"] == {dtype}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_that_was_asked_for_runs_and_no_other(results, name):
    case = CASES[name]
    kernel = case["kernel"] if case["dtype"] == "bf16" else f"{case['kernel']}, {case['dtype']}"
    assert set(results[name]["gpu"]["calls"]) == CALLED[kernel]


@pytest.mark.parametrize("name", CASES)
def test_waits_for_the_gpu_keep_within_their_limit(results, name):
    waits = results[name]["gpu"]["waits"]
    if "teacher" in waits:
        limit = TEACHER_WAITS.get(name, 1)
        assert all(Counter(found).total() <= limit for found in waits["teacher"]["forwards"]), waits["teacher"]
    forward, backward = STUDENT_WAITS.get(name, DISTILLATION_WAITS)
    assert all(Counter(found).total() <= forward for found in waits["student"]["forwards"]), waits["student"]
    assert all(Counter(found).total() <= backward for found in waits["student"]["backwards"]), waits["student"]
    assert results[name]["cpu"]["waits"]["student"]["all"] == {}  # what is counted is the GPU's


def test_no_micro_batch_begins_with_a_wait(results):
    for name in CASES:
        waits = results[name]["gpu"]["waits"]
        for who, found in waits.items():
            between = Counter(found["between"])
            assert not between, f"{name}, {who}: {between}"


def test_micro_batches_are_what_the_cases_say(results):
    assert len(results["two rows"]["gpu"]["waits"]["student"]["forwards"]) == 5  # nine rows
    assert len(results["vaopd"]["gpu"]["waits"]["student"]["forwards"]) > 1
