"""The published widths, vocabulary, rotary sections and heads, with two layers: engines against plain transformers.

A small model hides what only these have: a hidden size that is not heads x head size, more head rows than ids,
heads tied or not, a vision tower with heads of 72. Weights are removed as soon as they are used: they fill gigabytes.
Left to ``--long``: the step of 8B to 4B, and 32B, whose scores alone are looked at. 8B and 32B are no students here:
plain transformers would hold 14 and 22 GB in float32.
"""

import json
import shutil
import sys

import pytest
import torch
from transformers import Qwen3VLConfig

from tests.real_configs.models import IDS, make_checkpoint, shortened
from tests.stack import run, run_ranks
from verl_vaopd.costs.published import QWEN3_VL_INSTRUCT
from verl_vaopd.costs.shapes import ModelShape

pytestmark = [pytest.mark.heavy, pytest.mark.gigabytes(12)]

TOGETHER = {
    *(f"model.language_model.layers.{i}" for i in (0, 1)),
    *(f"model.visual.blocks.{i}" for i in (0, 1)),
    "root",
}
ALONE = {"lm_head", "model.language_model.embed_tokens", "model.visual.pos_embed"}
"""What FSDP gathers at a time: two layers, two blocks and the rest; of untied models each table by itself as well."""


def plain(folder, size: str, dtype: str, *teacher: str) -> dict:
    result = run(sys.executable, "-m", "tests.real_configs.plain", folder, size, dtype, *teacher, timeout=900)
    assert result.returncode == 0
    return torch.load(folder / f"plain_{'student' if teacher else 'teacher'}_{size}.pt")


def engines(folder, student: str | None, teacher: str) -> list[dict]:
    """What each of two ranks found."""
    (folder / "case.json").write_text(json.dumps({"student": student, "teacher": teacher, "dtype": "bf16"}))
    run_ranks("tests.real_configs.engine_rank", (2,), folder, timeout=900)
    return [torch.load(folder / f"engine_{rank}_of_2.pt") for rank in (0, 1)]


def check_scores(ranks: list[dict]) -> None:
    """In bf16: up to rounding."""
    for rank in ranks:
        for errors in rank["teacher"]["score_errors"].values():
            assert errors.max() < 0.1 and errors.mean() < 0.03  # nats; 0.025 and 0.008 were seen


def check_counts(engine: dict, size: str) -> None:
    tied = QWEN3_VL_INSTRUCT[size]["tie_word_embeddings"]
    assert engine["parameters"] == ModelShape.of(Qwen3VLConfig(**shortened(size))).total
    assert sorted(engine["units"]) == sorted(TOGETHER if tied else TOGETHER | ALONE)


@pytest.fixture(scope="module", params=["2B 4B", pytest.param("4B 8B", marks=pytest.mark.long)])
def step(request, tmp_path_factory):
    """Sizes of student and teacher; errors of plain transformers' against the packed forward; what the ranks found."""
    folder, sizes = tmp_path_factory.mktemp("real"), request.param.split()
    for seed, size in enumerate(sizes):
        make_checkpoint(folder / size, size, seed)
    student, teacher = sizes
    alone = {"teacher": plain(folder, teacher, "fp32"), "student": plain(folder, student, "fp32", teacher)}
    ranks = engines(folder, student, teacher)
    shutil.rmtree(folder)
    return sizes, alone, ranks


@pytest.mark.parametrize("size", QWEN3_VL_INSTRUCT)
def test_rotary_positions_are_read_as_published(size):
    rope = Qwen3VLConfig(**QWEN3_VL_INSTRUCT[size]).text_config.rope_parameters
    assert rope["mrope_section"] == [24, 20, 20] and rope["mrope_interleaved"] and rope["rope_theta"] == 5e6


def test_in_fp32_forward_and_gradients_are_those_of_plain_transformers(step):
    _, alone, _ = step
    assert alone["teacher"]["score_error"] < 1e-5  # nats
    assert alone["student"]["loss_error"] < 1e-5
    assert alone["student"]["gradient_error"] < 5e-5
    assert max(alone["student"]["gradient_errors"].values()) < 1e-4, alone["student"]["gradient_errors"]  # of one


def test_in_bf16_a_step_on_two_ranks_is_it_up_to_rounding(step):
    _, _, ranks = step
    check_scores(ranks)
    for rank in ranks:
        student = rank["student"]
        assert student["loss"] == pytest.approx(student["wanted_loss"], rel=0.01)
        assert student["gradient_error"] < 0.05
        assert max(student["gradient_errors"].values()) < 0.1, student["gradient_errors"]


def test_head_rows_without_an_id_learn_nothing(step):
    # 151,936 rows of which 151,669 are ids; the rest has a gradient of exactly 0, tied to the embedding or not.
    (student, _), _, ranks = step
    assert all(rank["student"]["padded_rows"] == 0 for rank in ranks)
    assert QWEN3_VL_INSTRUCT[student]["text_config"]["vocab_size"] - IDS == 267


def test_parameters_and_what_fsdp_gathers(step):
    (student, teacher), _, ranks = step
    for rank in ranks:
        check_counts(rank["student"], student)
        check_counts(rank["teacher"], teacher)


@pytest.mark.long
def test_32b_scores_as_plain_transformers(tmp_path):
    make_checkpoint(tmp_path / "32B", "32B", 2)
    alone = plain(tmp_path, "32B", "bf16")
    assert alone["score_error"] < 0.1
    ranks = engines(tmp_path, None, "32B")
    shutil.rmtree(tmp_path)
    check_scores(ranks)
    for rank in ranks:
        check_counts(rank["teacher"], "32B")
