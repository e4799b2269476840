"""A checkpoint of two ranks on one, and of one on two: real engines, FSDP2 over gloo."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import Qwen3VLForConditionalGeneration

from tests.random_models import Prompts, load, make_checkpoint, plain_logits
from tests.stack import run_ranks
from tests.student.checkpoint_variants import FAMILIES, REACHED_BY_NOTHING, VARIANTS
from verl_vaopd.student.merge import read_index, read_weights
from verl_vaopd.student.trained import Trained
from verl_vaopd.tiny.models import random_models

pytestmark = pytest.mark.heavy  # three processes' worth of imports


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    random_models(folder)
    for family in FAMILIES:  # of two layers, heads of their own where two ranks would load it on the meta device
        make_checkpoint(folder / family, 64, 2, head_rows=112, tied=family != "glm4v", seed=0, family=family)
    run_ranks("tests.student.checkpoint_rank", (1, 2), folder)
    return folder, {world: torch.load(folder / f"results_{world}.pt", weights_only=True) for world in (1, 2)}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_another_number_of_ranks_goes_on_as_if_nothing_had_happened(saved, world, variant):
    """Parameters, moments of AdamW and schedule: the next step is bit-equal."""
    result = saved[1][world][variant]
    for name, wanted in result["went on"].items():
        moved = not torch.equal(result["loaded"][name], wanted)
        assert torch.equal(result["resumed"][name], wanted), name
        assert moved == (name in result["trained"] and name not in REACHED_BY_NOTHING[variant]), name
    *_, third, went_on, resumed = result["rates"]
    assert resumed == went_on != third


@pytest.mark.parametrize("world", [1, 2])
def test_the_hugging_face_folder_holds_the_same_weights(saved, world):
    folder, results = saved
    for variant in ("all", "frozen"):
        huggingface = folder / f"{variant}_{world}" / "huggingface"
        exported = Qwen3VLForConditionalGeneration.from_pretrained(huggingface, dtype=torch.float32)
        names = dict(exported.named_parameters())
        for name, wanted in results[3 - world][variant]["loaded"].items():
            assert torch.equal(names[name], wanted), name


def test_what_is_frozen_is_in_no_checkpoint_and_has_no_moments(saved):
    folder, results = saved
    trained = results[1]["frozen"]["trained"]
    assert trained and not any(".visual." in name for name in trained)
    kept = set(trained) - REACHED_BY_NOTHING["frozen"]
    names = read_index(folder / "frozen_2").state_dict_metadata
    stored = {name.removeprefix("model.") for name in names if name.startswith("model.")}
    assert stored - {"lm_head.weight"} == kept  # the head is the embedding under another name
    moments = {name for name in names if name.startswith("optimizer.state.") and name.endswith("exp_avg")}
    assert len(moments) == len(kept)
    assert results[1]["frozen"]["optimizer"] == 3 * len(kept)  # of AdamW: step and two moments


def test_what_no_forward_reaches_is_frozen_and_named(saved):
    written = json.loads((saved[0] / "frozen_2" / "trained.json").read_text())
    assert written["freeze"] == ["vision", "merger"] and set(written["unreached"]) == REACHED_BY_NOTHING["frozen"]
    assert json.loads((saved[0] / "all_2" / "trained.json").read_text())["unreached"] == []


@pytest.mark.parametrize("world", [1, 2])
def test_adapters_are_all_that_a_checkpoint_holds(saved, world):
    names = {n.removeprefix("model.") for n in read_index(saved[0] / f"lora_{world}").state_dict_metadata}
    stored = {name for name in names if not name.startswith("optimizer.")}
    assert stored == set(saved[1][world]["lora"]["trained"]) and all(".lora_" in name for name in stored)


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_sent_and_exported_is_what_peft_merges(saved, world):
    """Layers of FSDP's root unit, the mergers', included; the names are those of a student without adapters."""
    folder, results = saved
    huggingface = folder / f"lora_{world}" / "huggingface"
    load = Qwen3VLForConditionalGeneration.from_pretrained
    base, exported = load(folder / "student", dtype=torch.float32), load(huggingface, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    merged = PeftModel.from_pretrained(base, huggingface / "adapter").merge_and_unload().state_dict()
    sent = results[world]["lora"]["sent"]
    assert set(sent) == set(merged) == set(before)
    shards = read_weights(folder / f"lora_{world}")
    for name, wanted in merged.items():
        torch.testing.assert_close(sent[name], wanted, rtol=0, atol=1e-6)
        assert torch.equal(exported.state_dict()[name], sent[name]), name
        assert torch.equal(shards[name], sent[name].bfloat16()), name
    changed = {name for name in before if (sent[name] - before[name]).abs().max() > 1e-3}
    adapted = {name.split(".lora_")[0] + ".weight" for name in results[world]["lora"]["trained"]}
    assert changed == adapted
    assert {
        "model.visual.merger.linear_fc1.weight",
        "model.visual.deepstack_merger_list.0.linear_fc2.weight",
    } <= adapted
    assert not {"lm_head.weight", "model.language_model.embed_tokens.weight"} & adapted


def test_a_checkpoint_of_a_run_that_trained_something_else_is_refused(saved):
    was = Trained.read(saved[0] / "lora_1")
    with pytest.raises(ValueError, match=r"lora_rank.*: nothing, but C is of a run with \{'lora_rank': 4"):
        Trained("student").require_same(was, "C")
    with pytest.raises(ValueError, match=r"vaopd.freeze: \['head'\], but C is of a run with nothing"):
        Trained("student", ["head"]).require_same(None, "C")
    Trained("student", [], was.lora).require_same(was, "C")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_on_on_one_rank_where_two_had_stopped(saved, family):
    """Weights, both moments of AdamW and the next step are bit-equal."""
    one, two = saved[1][1][family], saved[1][2][family]
    assert one["rate"] == two["rate"]
    for what in ("weights", "moments", "next"):
        assert set(one[what]) == set(two[what])
        for name, wanted in two[what].items():
            assert torch.equal(one[what][name], wanted), f"{what} of {name}"
    assert any(not torch.equal(two["weights"][name], two["next"][name]) for name in two["next"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_export_is_the_hubs_and_computes_the_same(saved, family):
    """Plain transformers on the exported folder, and on the live weights put into the student that it began with."""
    folder, results = saved
    exported = folder / f"{family}_2" / "huggingface"
    assert names(exported) == names(folder / family)
    live = load(folder / family)
    left_out = live.load_state_dict(results[2][family]["weights"], strict=False)
    assert set(left_out.missing_keys) <= {"lm_head.weight"} and not left_out.unexpected_keys  # tied to the embedding
    prompts = Prompts(family=family)
    uid, ids, length = next(row for row in prompts.rows if row[0] == "two")
    before, wanted, got = (
        plain_logits(model.eval(), ids, length, prompts.original[uid])
        for model in (load(folder / family), live, load(exported, dtype=torch.float32))
    )
    assert torch.equal(got, wanted) and (wanted - before).abs().max() > 0.01


def test_layers_that_nothing_reads_are_in_no_checkpoint_and_in_every_export(saved):
    """Of LLaVA's tower the last layer, 16 tensors, and the norm behind it."""
    folder = saved[0]
    left_out = json.loads((folder / "llava_2" / "trained.json").read_text())["unreached"]
    assert len(left_out) == 18 and all("encoder.layers.1." in n or "post_layernorm" in n for n in left_out)
    assert not {f"model.{name}" for name in left_out} & set(read_index(folder / "llava_2").state_dict_metadata)
    assert set(left_out) <= set(read_weights(folder / "llava_2"))  # without the Hugging Face part


def names(folder) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as stored:
        return set(stored.keys())
