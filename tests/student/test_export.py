"""``verl-vaopd export``: two ranks' shards as one folder that transformers loads."""

import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, GenerationConfig

from tests.stack import ROOT, run_ranks
from verl_vaopd.student.export import export, main
from verl_vaopd.tiny.models import random_models

pytestmark = pytest.mark.slow

SHARD = "actor/distributed/__1_0.distcp"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with ``student/`` of before, ``global_step_2/`` of two ranks and ``live.pt``, their weights."""
    folder = tmp_path_factory.mktemp("export")
    random_models(folder)
    run_ranks("tests.student.export_rank", (2,), folder)
    return folder


@pytest.fixture
def checkpoint(run, tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(run / "global_step_2", tmp_path / "global_step_2")


@pytest.mark.heavy  # two processes' worth of imports
def test_the_exported_weights_are_the_live_ones(run, tmp_path):
    output = tmp_path / "deep" / "student"
    command = [sys.executable, "-m", "verl_vaopd.cli", "export", run / "global_step_2", "--output", output]
    ended = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"{output}: merged from the ranks' shards, bf16" in ended.stdout

    model = AutoModelForImageTextToText.from_pretrained(output)
    exported, live = dict(model.named_parameters()), torch.load(run / "live.pt", weights_only=True)
    assert set(exported) == set(live)
    for name, wanted in live.items():
        assert exported[name].dtype == torch.bfloat16, name
        assert torch.equal(exported[name], wanted.bfloat16()), name
    before = AutoModelForImageTextToText.from_pretrained(run / "student").bfloat16()
    assert not torch.equal(before.lm_head.weight, model.lm_head.weight)
    with safe_open(output / "model.safetensors", "pt") as stored:  # tied: the embedding is stored once ...
        assert "lm_head.weight" not in stored.keys()
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight  # ... and the head is it

    text = "How many degrees?"
    before, after = (AutoTokenizer.from_pretrained(folder).encode(text) for folder in (run / "student", output))
    assert before == after
    assert type(AutoProcessor.from_pretrained(output)) is type(AutoProcessor.from_pretrained(run / "student"))
    wanted = GenerationConfig.from_pretrained(run / "student").eos_token_id
    assert wanted is not None and GenerationConfig.from_pretrained(output).eos_token_id == wanted
    assert not output.with_name("student.unfinished").exists()


@pytest.mark.heavy
def test_a_hugging_face_part_that_is_there_is_copied(run, checkpoint, tmp_path):
    shutil.copy(run / "student" / "model.safetensors", checkpoint / "actor" / "huggingface")
    shutil.rmtree(checkpoint / "actor" / "distributed")
    assert not export(checkpoint / "actor", tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (run / "student/model.safetensors").read_bytes()
    assert (tmp_path / "out/tokenizer.json").exists() and (tmp_path / "out/generation_config.json").exists()


@pytest.mark.heavy
def test_a_shard_that_is_missing_or_cut_off_is_named(checkpoint, tmp_path, capsys):
    whole = (checkpoint / SHARD).read_bytes()
    (checkpoint / SHARD).write_bytes(whole[: len(whole) // 2])
    assert main([str(checkpoint), "--output", str(tmp_path / "out")]) == 2
    assert f"__1_0.distcp has {len(whole) // 2:,} of its" in capsys.readouterr().err
    (checkpoint / SHARD).unlink()
    assert main([str(checkpoint), "--output", str(tmp_path / "out")]) == 2
    assert "__1_0.distcp is missing: the index beside it names 2 shards" in capsys.readouterr().err
    (checkpoint / "actor/distributed/.metadata").unlink()
    with pytest.raises(ValueError, match="no .metadata"):
        export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_checkpoint_and_an_output_that_is_not_empty_are_refused(tmp_path):
    with pytest.raises(ValueError, match="global_step_7: there is no such folder"):
        export(tmp_path / "global_step_7", tmp_path / "out")
    with pytest.raises(ValueError, match="is no checkpoint: name checkpoints/global_step_N"):
        export(tmp_path, tmp_path / "out")
    huggingface, out = tmp_path / "global_step_7/actor/huggingface", tmp_path / "out"
    huggingface.mkdir(parents=True)
    (huggingface / "config.json").write_text("{}")
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out is there and not empty"):
        export(tmp_path / "global_step_7", out)
    assert (out / "notes.txt").read_text() == "mine"
