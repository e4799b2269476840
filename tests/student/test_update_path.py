"""The whole update path against a naive single-process implementation of Eq. 2-6.

Gradients of every student parameter, teacher scores and loss are compared for several micro-batch sizes, dynamic
batching, activation checkpointing, and 1 and 2 ranks over gloo: FSDP with siblings on both, sequence parallelism, and
several mini-batches.
"""

import json

import pytest
import torch

from tests.random_models import Prompts, load, make_checkpoint
from tests.stack import run_ranks
from tests.student.naive import naive, with_adapters
from tests.student.update_path_settings import LORA, LORA_EVERYWHERE
from verl_vaopd.student.frozen import part_of

pytestmark = pytest.mark.slow

MIXED = {"response_lengths": [7, 1, 4, 9], "settings": {}}
EQUAL = {"response_lengths": [5, 5, 5, 5], "settings": {}}
OPD = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "opd"}}
DISTRIBUTION = {"response_lengths": [7, 1, 4, 9], "settings": {"score": "distribution"}}
GRPO = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "grpo"}}
GRPO_BY_VA = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "grpo_va"}}
PAPO = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "papo"}}
OFFPOLICY = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "offpolicy_kd", "answers": "x"}}
GKD = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "gkd", "gkd": {"beta": 0.3}}}
GKD_BY_VA = {
    "response_lengths": [7, 1, 4, 9],
    "settings": {"method": "gkd", "gkd": {"beta": 0.5, "token_weights": "visual_advantage"}},
}
MASS = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "vaopd_mass", "mass": {"share": 0.7}}}
OPD_AND_REWARD = {"response_lengths": [7, 1, 4, 9], "settings": {"method": "opd", "reward_weight": 0.5}}
VAOPD_AND_REWARD = {"response_lengths": [7, 1, 4, 9], "settings": {"reward_weight": 2.0}}
GKD_AND_REWARD = {"response_lengths": [7, 1, 4, 9], "settings": {**GKD["settings"], "reward_weight": 0.5}}
FAMILIES = (
    *("qwen3_vl_moe", "qwen2_5_vl", "qwen2_vl", "glm4v", "internvl"),
    *("qwen3_5", "gemma3", "llava_onevision"),  # in the padded layout, the only one that fits
    "llava",  # of which this package has no file
)
PADDED = {"attn_implementation": "sdpa", "vaopd_layout": "padded"}
LEARNING_RATE = 0.3
LARGE_VOCABULARY = 6000
CASES = {
    1: {
        "1 row": {**MIXED, "micro_batch": 1},
        "3 rows": {**MIXED, "micro_batch": 3},
        "6 rows": {**MIXED, "micro_batch": 6, "scores_only": True},
        "by tokens": {**MIXED, "micro_batch": None},
        "distribution, 1 row": {**DISTRIBUTION, "micro_batch": 1},
        "distribution": {**DISTRIBUTION, "micro_batch": None},
        "checkpointing": {**MIXED, "micro_batch": None, "checkpointing": True},
        "grpo": {**GRPO, "micro_batch": 3},
        "gkd": {**GKD, "micro_batch": 3},
        "groups by mass": {**MASS, "micro_batch": 3},
        "vaopd and reward": {**VAOPD_AND_REWARD, "micro_batch": None},
        "papo": {**PAPO, "micro_batch": None, "checkpointing": True},
        "frozen tower": {**MIXED, "micro_batch": 3, "freeze": ["vision", "merger"], "checkpointing": True},
        "frozen language": {**MIXED, "micro_batch": None, "freeze": ["language"]},
        "adapters": {**MIXED, "micro_batch": 3, "lora": LORA},
        "adapters everywhere": {**MIXED, "micro_batch": None, "lora": LORA_EVERYWHERE, "checkpointing": True},
        "bf16": {**MIXED, "micro_batch": None, "dtype": "bf16"},
        "large vocabulary": {
            **{"response_lengths": [60] * 4, "settings": {}, "micro_batch": 12},
            **{"models": "large_", "vocab_size": LARGE_VOCABULARY},
        },
        **{name: {**MIXED, "micro_batch": None, "family": name, "models": f"{name}_"} for name in FAMILIES},
        **{
            f"{name}, its own teacher": {
                **{**MIXED, "micro_batch": None, "family": name, "models": f"{name}_", "teacher": "student"},
            }
            for name in FAMILIES
        },
        "padded": {**MIXED, "micro_batch": None, "override": PADDED},
        "qwen2_5_vl, padded": {
            **{**MIXED, "micro_batch": 3, "family": "qwen2_5_vl", "models": "qwen2_5_vl_", "override": PADDED},
        },
        "papo, large vocabulary": {
            **{"response_lengths": [60] * 4, "settings": {"method": "papo"}, "micro_batch": 12},
            **{"models": "large_", "vocab_size": LARGE_VOCABULARY},
        },
    },
    2: {
        "1 row": {**MIXED, "micro_batch": 1},
        "3 rows": {**MIXED, "micro_batch": 3},
        "by tokens": {**MIXED, "micro_batch": None},
        "equal lengths": {**EQUAL, "micro_batch": None},
        "opd": {**OPD, "micro_batch": 3},
        "opd, one view": {**OPD, "settings": {"method": "opd", "degraded_view": False}, "micro_batch": None},
        "offpolicy_kd": {**OFFPOLICY, "micro_batch": 3},
        "papo": {**PAPO, "micro_batch": None},
        "papo, 1 row": {**PAPO, "micro_batch": 1},
        "gkd by VA": {**GKD_BY_VA, "micro_batch": None},
        "gkd, sequence parallel": {**GKD, "micro_batch": None, "sequence_ranks": 2},
        "opd and reward": {**OPD_AND_REWARD, "micro_batch": 3},
        "gkd and reward, sequence parallel": {**GKD_AND_REWARD, "micro_batch": None, "sequence_ranks": 2},
        "grpo by VA": {**GRPO_BY_VA, "micro_batch": None},
        "grpo, sequence parallel": {**GRPO, "micro_batch": None, "sequence_ranks": 2},
        "sequence parallel": {**MIXED, "micro_batch": None, "sequence_ranks": 2},
        "sequence parallel, 1 row": {**MIXED, "micro_batch": 1, "sequence_ranks": 2},
        "frozen vision": {**MIXED, "micro_batch": 3, "freeze": ["vision"]},
        "frozen head": {**MIXED, "micro_batch": None, "freeze": ["head"]},
        "adapters": {**MIXED, "micro_batch": None, "lora": LORA, "sequence_ranks": 2},
        "adapters everywhere, head untied": {
            **{**MIXED, "micro_batch": 3, "lora": LORA_EVERYWHERE, "student": "untied"},
        },
        "3 mini-batches": {**MIXED, "micro_batch": None, "mini_batches": 3, "lr": LEARNING_RATE},
        **{
            f"{name}, 1 row": {**MIXED, "micro_batch": 1, "family": name, "models": f"{name}_", "checkpointing": True}
            for name in FAMILIES
        },
        "padded, 1 row": {**MIXED, "micro_batch": 1, "override": PADDED, "checkpointing": True},
        "qwen2_5_vl, sequence parallel": {
            **{**MIXED, "micro_batch": None, "family": "qwen2_5_vl", "models": "qwen2_5_vl_", "sequence_ranks": 2},
        },
    },
}
RUNS = [
    (world, name)
    for world, cases in CASES.items()
    for name, case in cases.items()
    if not {"mini_batches", "dtype", "vocab_size", "teacher"} & set(case)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("update_path")
    make_checkpoint(folder / "student", hidden=64, layers=2, head_rows=112, tied=True, seed=0)
    make_checkpoint(folder / "teacher", hidden=96, layers=3, head_rows=128, tied=False, seed=1)
    for family in FAMILIES:
        make_checkpoint(folder / f"{family}_student", 64, 2, head_rows=112, tied=True, seed=2, family=family)
        make_checkpoint(folder / f"{family}_teacher", 128, 2, head_rows=128, tied=False, seed=3, family=family)
    make_checkpoint(folder / "untied", hidden=64, layers=2, head_rows=112, tied=False, seed=2)
    make_checkpoint(folder / "large_student", hidden=64, layers=2, head_rows=6016, tied=True, seed=0)
    make_checkpoint(folder / "large_teacher", hidden=96, layers=2, head_rows=6016, tied=False, seed=1)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """What the naive implementation says for the response lengths and settings of a case."""
    known = {}

    def of(case: dict) -> dict:
        names = ("response_lengths", "settings", "models", "teacher", "student", "lora")
        key = json.dumps([case.get(name) for name in names])
        if key not in known:
            known[key] = naive(folder, case, with_adapters(folder, case) if "lora" in case else None)
        return known[key]

    return of


@pytest.fixture(scope="module")
def results(folder):
    """What this package says, on 1 and on 2 ranks."""
    (folder / "cases.json").write_text(json.dumps(CASES))
    found = {}
    for world in CASES:
        run_ranks("tests.student.update_path", (world,), folder)
        found[world] = torch.load(folder / f"results_{world}.pt", weights_only=False)
    return found


@pytest.mark.parametrize("world, name", RUNS)
def test_gradients_equal_the_naive_ones(results, expected, world, name):
    wanted, got = dict(expected(CASES[world][name])), results[world][name]
    assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert got["tokens"] == 3 * sum(CASES[world][name]["response_lengths"])
    frozen = CASES[world][name].get("freeze", [])
    if frozen:  # the head is tied to the embedding, which is frozen with either
        tied = ["model.language_model.embed_tokens.weight"] if {"language", "head"} & set(frozen) else []
        wanted["gradients"] = {
            parameter: gradient
            for parameter, gradient in wanted["gradients"].items()
            if part_of(parameter) not in frozen and parameter not in tied
        }
        assert set(got["gradients"]) == set(wanted["gradients"]) != set()
    if "lora" in CASES[world][name]:
        assert set(got["gradients"]) == set(wanted["gradients"])
        assert all(".lora_" in parameter for parameter in got["gradients"])
    # A parameter that only the naive run leaves without gradient would be one that FSDP fills with zeros.
    assert set(wanted["gradients"]) <= set(got["gradients"])
    largest = max(gradient.norm() for gradient in wanted["gradients"].values())
    for parameter, gradient in wanted["gradients"].items():
        # A key's bias moves all scores of a query alike, so its gradient is 0, and what is found is rounding.
        least = 1e-3 * largest if parameter.endswith("k_proj.bias") else 1e-12
        error = (got["gradients"][parameter] - gradient).norm() / gradient.norm().clamp(min=least)
        assert error < 1e-5, f"{parameter}: relative error {error:.1e}"


@pytest.mark.parametrize("world, name", RUNS)
def test_teacher_scores_equal_two_plain_forwards(results, expected, world, name):
    wanted, got = expected(CASES[world][name])["scores"], results[world][name]["scores"]
    assert len(got) == len(wanted) == 12
    if not CASES[world][name]["settings"].get("degraded_view", True):
        wanted = [(original, original) for original, _ in wanted]  # the degraded view is not scored
    for (row, *views), plain in zip(got, wanted, strict=True):
        for view, plain_view in zip(views, plain, strict=True):
            assert (view - plain_view).abs().max() < 1e-5 * max(1, plain_view.abs().max()), f"row {row}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_learns_nothing_from_itself(results, family):
    """Where teacher and student are one model the KL is zero, up to rounding, and so is every gradient."""
    itself, other = results[1][f"{family}, its own teacher"], results[1][family]
    assert abs(itself["loss"]) < 1e-6 and other["loss"] > 0.1
    largest = max(gradient.norm() for gradient in other["gradients"].values())
    assert all(gradient.norm() < 1e-5 * largest for gradient in itself["gradients"].values())


def test_bf16_computes_the_same_up_to_its_rounding(results, expected):
    wanted, got = expected(MIXED), results[1]["bf16"]
    assert got["loss"] == pytest.approx(wanted["loss"], rel=0.02)
    assert all(gradient.dtype == torch.float32 for gradient in got["gradients"].values())  # accumulated in float32
    flat = [
        torch.cat([source[name].flatten() for name in wanted["gradients"]])
        for source in (wanted["gradients"], got["gradients"])
    ]
    assert torch.cosine_similarity(*flat, dim=0) > 0.99


def test_each_mini_batch_is_a_step_on_the_mean_over_its_own_prompts(folder, results):
    got = results[2]["3 mini-batches"]
    student = load(folder / "student")
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    losses = []
    for uid in ("one", "two", "text"):  # one prompt a mini-batch
        student.zero_grad()
        losses.append(naive(folder, CASES[2]["3 mini-batches"], student, only=uid)["loss"])
        with torch.no_grad():
            for parameter in student.parameters():
                if parameter.grad is not None:
                    parameter -= LEARNING_RATE * parameter.grad
    assert got["metrics"]["loss"] == pytest.approx(losses, rel=1e-4)
    for name, parameter in student.named_parameters():
        moved = parameter.detach() - before[name]
        error = (got["parameters"][name] - parameter.detach()).norm() / moved.norm().clamp(min=1e-12)
        assert error < 1e-3, f"{name}: off by {error:.1e} of its way"


def test_no_tensor_of_response_tokens_by_vocabulary_is_made(results):
    largest = results[1]["large vocabulary"]["largest"]
    tokens = 3 * 4 * 60
    assert 0 < results[1]["papo, large vocabulary"]["largest"]["student"] < tokens * LARGE_VOCABULARY / 3
    # Fused FSDP units hold a head and an embedding [6016, 96]: below a third of [720, 6000], the smallest that would be
    # wrong; the teacher's, under two views, would be twice that.
    assert 0 < largest["student"] < tokens * LARGE_VOCABULARY / 3
    assert 0 < largest["teacher"] < tokens * LARGE_VOCABULARY / 3


def test_a_frozen_tower_runs_without_a_graph(results):
    """So nothing of it is kept for a backward; what the merger needs is, where that is trained."""
    graphs = {name: results[world][name]["tower_has_graph"] for world, name in RUNS}
    assert not graphs.pop("frozen tower") and not graphs.pop("adapters") and all(graphs.values())


def test_text_only_rows_have_no_visual_advantage(results):
    uids = [uid for uid, _, _ in Prompts(response_lengths=[7, 1, 4, 9]).rows]
    for row, original, pixelated in results[2]["by tokens"]["scores"]:
        assert torch.equal(original, pixelated) == (uids[row] == "text")


def test_text_only_rows_take_no_part_in_perception(results):
    for name in ("papo", "papo, 1 row"):
        assert results[2][name]["masked_tokens"] == 2 * sum(PAPO["response_lengths"])
        assert results[2][name]["perception_kl_sum"] > 0


def test_small_micro_batches_are_really_small(results):
    counts = {name: results[1][name]["micro_batches"] for name in CASES[1]}
    assert counts["1 row"] == 12 and counts["6 rows"] == 2 and counts["by tokens"] > 2
