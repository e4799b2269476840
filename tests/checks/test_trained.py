"""What cannot be trained is refused by name, from the student's config alone; what is trained is said."""

import json
import shutil

import pytest
from omegaconf import OmegaConf

from tests.random_models import make_checkpoint
from verl_vaopd.checks.start import check_settings
from verl_vaopd.checks.trained import check_trained, check_trained_of, said_of_trained
from verl_vaopd.settings.compose import compose, instantiate
from verl_vaopd.tiny.models import random_models

MODEL, FREEZE_TOWER = "actor_rollout_ref.model", "actor_rollout_ref.actor.freeze_vision_tower=true"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two students; the head of one is its embedding, the other has one of its own."""
    folder = tmp_path_factory.mktemp("models")
    tied, _ = random_models(folder)
    untied = shutil.copytree(tied, folder / "untied")
    settings = json.loads((tied / "config.json").read_text())
    assert settings["tie_word_embeddings"]
    (untied / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    return {"tied": tied, "untied": untied}


@pytest.fixture(scope="module")
def config(models):
    """The demo's config with settings changed; not yet looked at."""
    rest = ["vaopd.teacher.path=t", "data.train_files=a", "data.val_files=b"]
    base = compose("tiny_cpu", [f"{MODEL}.path=s", *rest])

    def changed(*overrides, student="tied"):
        found = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        found.actor_rollout_ref.model.path = str(models[student])
        return found

    return changed


@pytest.mark.parametrize(
    "freeze, says",
    [
        ("[vision,merger,language,head]", "leaves nothing to train; vaopd.method=base evaluates only"),
        ("[tower]", "a list of vision, merger, language, head, each once"),
        ("[head,head]", "a list of vision, merger, language, head, each once"),
        ("vision", "freeze"),
    ],
)
def test_parts_that_cannot_be_frozen_are_refused(config, freeze, says):
    with pytest.raises(ValueError, match=says):
        instantiate(config(f"vaopd.freeze={freeze}"))


def test_frozen_parts_that_leave_nothing_are_refused(config):
    rest = "vaopd.freeze=[merger,language,head]"
    with pytest.raises(ValueError, match="nothing is left to train with actor_rollout_ref.actor.freeze_vision_tower"):
        check_trained(config(rest, FREEZE_TOWER, student="untied"))
    rest = "vaopd.freeze=[vision,merger,language]"
    with pytest.raises(ValueError, match="leaves nothing to train: head shares its weights with a frozen part"):
        check_trained(config(rest))
    check_trained(config(rest, student="untied"))


def test_verls_switch_freezes_the_vision_tower(config):
    by_switch, by_name = (
        {name for name, each in check_trained(config(override)).named_parameters() if each.requires_grad}
        for override in (FREEZE_TOWER, "vaopd.freeze=[vision]")
    )
    assert by_switch == by_name and any("merger" in name for name in by_name)
    assert not any("visual" in name and "merger" not in name for name in by_name)


@pytest.mark.parametrize(
    "overrides, says",
    [
        (
            ["vaopd.freeze=[language]"],
            r"adapter on model.language_model.layers.0.self_attn.q_proj: vaopd.freeze=.*lang",
        ),
        ([FREEZE_TOWER, f"{MODEL}.target_modules=all-linear"], "adapter on model.visual.*has its part, 'vision'"),
        ([f"{MODEL}.target_modules=[lm_head]"], "adapter on lm_head: the loss is fused with the head"),
        ([f"{MODEL}.target_modules=[embed_tokens]"], "embed_tokens: only linear layers can have one"),
        ([f"{MODEL}.target_modules=[no_such]"], r"target_modules=\['no_such'\]: "),
        ([f"{MODEL}.target_modules=all-linear", f"{MODEL}.lora.merge=false"], "visual.*: vLLM takes none in the part"),
    ],
)
def test_layers_that_can_have_no_adapter_are_named(config, overrides, says):
    with pytest.raises(ValueError, match=says) as refused:
        check_trained(config(f"{MODEL}.lora_rank=4", *overrides))
    assert str(refused.value).startswith(f"{MODEL}.target_modules=")


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["lora_rank=-1"], "lora_rank=-1: must be a whole number, 0 or more"),
        (["lora_rank=4", "target_modules=[]"], "a list of names' ends"),
        (["lora_rank=513", "lora.merge=false"], "lora_rank=513: must be 512 or less"),
        (["lora_rank=4", "lora.rank=4"], r"lora.rank=4: nothing here follows it.*set model.lora_rank"),
    ],
)
def test_wrong_settings_of_adapters_are_refused(config, overrides, says):
    with pytest.raises(ValueError, match=says):
        check_settings(config(*(f"{MODEL}.{override}" for override in overrides)))


def test_settings_of_adapters_pass(config):
    check_settings(config(f"{MODEL}.lora_rank=4", f"{MODEL}.lora.merge=false", f"{MODEL}.target_modules=[q_proj]"))


def test_unmerged_adapters_need_the_rest_from_disk(config):
    with pytest.raises(ValueError, match="load_format='dummy': must be 'auto' or 'safetensors'"):
        dummy = "actor_rollout_ref.rollout.load_format=dummy"
        check_settings(config(f"{MODEL}.lora_rank=4", f"{MODEL}.lora.merge=false", dummy))


def test_what_is_trained_is_said(config):
    assert said_of_trained(config()) == []
    (line,) = said_of_trained(config("vaopd.freeze=[vision,merger]"))
    assert line.startswith("trained: language, head (") and "; frozen: vision, merger (" in line
    (line,) = said_of_trained(config("vaopd.freeze=[head]"))  # which is the embedding too
    assert line.startswith("trained: vision, merger, language (") and "; frozen: head (" in line
    lora = [f"{MODEL}.lora_rank=2", f"{MODEL}.exclude_modules=[down_proj]"]
    module = check_trained(config(*lora))
    text = module.config.text_config
    heads, keys, hidden = (
        text.num_attention_heads * text.head_dim,
        text.num_key_value_heads * text.head_dim,
        text.hidden_size,
    )
    # r (in + out) of q, k, v, o, gate and up, in every layer
    layer = 2 * (2 * (hidden + heads) + 2 * (hidden + keys) + 2 * (hidden + text.intermediate_size))
    assert said_of_trained(config(*lora))[0].startswith(
        f"trained: adapters of language ({text.num_hidden_layers * layer:,} parameters); frozen: vision, merger, head ("
    )


def test_layers_that_nothing_reads_are_named_at_the_start(config, tmp_path):
    """Of two layers of LLaVA's tower the first one's features are taken."""
    make_checkpoint(tmp_path, 64, 2, head_rows=112, tied=True, seed=0, family="llava")
    tower = "model.vision_tower"
    line = f"not trained, nothing reads their output: {tower}.post_layernorm, {tower}.encoder.layers.1"
    changed = config()
    changed.actor_rollout_ref.model.path = str(tmp_path)
    assert said_of_trained(changed) == [line]
    changed.vaopd.freeze = ["language"]
    assert said_of_trained(changed)[0] == line and said_of_trained(changed)[1].startswith("trained: vision, merger")


def test_a_checkpoint_of_a_run_that_trained_all_is_not_gone_on_with_adapters(config, tmp_path):
    with pytest.raises(ValueError, match="lora_rank.*is of a run with nothing"):
        check_trained_of(tmp_path, config(f"{MODEL}.lora_rank=2"))
    check_trained_of(tmp_path, config())
