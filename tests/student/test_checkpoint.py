"""A checkpoint of two ranks on one, and of one on two: real engines, FSDP2 over gloo."""

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from tests.stack import run_ranks
from verl_vaopd.tiny.models import random_models

pytestmark = pytest.mark.stack  # three processes' worth of imports, though no stack


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    random_models(folder)
    run_ranks("tests.student.checkpoint_rank", (1, 2), folder)
    return folder, {world: torch.load(folder / f"results_{world}.pt", weights_only=True) for world in (1, 2)}


@pytest.mark.parametrize("world", [1, 2])
def test_another_number_of_ranks_goes_on_as_if_nothing_had_happened(saved, world):
    """Parameters, moments of AdamW and schedule: the next step is bit-equal."""
    result = saved[1][world]
    for name, wanted in result["went on"].items():
        assert torch.equal(result["resumed"][name], wanted), name
        assert not torch.equal(result["loaded"][name], wanted), name
    *_, third, went_on, resumed = result["rates"]
    assert resumed == went_on != third


@pytest.mark.parametrize("world", [1, 2])
def test_the_hugging_face_folder_holds_the_same_weights(saved, world):
    folder, results = saved
    huggingface = folder / f"saved_{world}" / "huggingface"
    exported = Qwen3VLForConditionalGeneration.from_pretrained(huggingface, dtype=torch.float32)
    names = dict(exported.named_parameters())
    for name, wanted in results[3 - world]["loaded"].items():
        assert torch.equal(names[name], wanted), name
