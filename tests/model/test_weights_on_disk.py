"""Weights that are not there, not whole, or not used are found before Ray starts."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.random_models import make_checkpoint
from verl_vaopd.model.head import HEAD, load_lm_head, local_checkpoint

TIED = "model.language_model.embed_tokens.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, tied in (("tied", True), ("untied", False)):
        make_checkpoint(folder / name, hidden=32, layers=1, head_rows=104, tied=tied, seed=0)
    return folder


@pytest.fixture
def copied(folders, tmp_path):
    def copy(name):
        shutil.copytree(folders / name, tmp_path / name)
        return tmp_path / name

    return copy


def test_the_config_decides_which_head_is_read(copied):
    tied = copied("tied")
    weights = load_file(tied / "model.safetensors")
    stale = torch.full_like(weights[TIED], 7.0)
    save_file({**weights, HEAD: stale}, tied / "model.safetensors")
    assert torch.equal(load_lm_head(str(tied)), weights[TIED])
    untied = copied("untied")
    weights = load_file(untied / "model.safetensors")
    assert torch.equal(load_lm_head(str(untied)), weights[HEAD])
    del weights[HEAD]
    save_file(weights, untied / "model.safetensors")
    with pytest.raises(ValueError, match="holds 0 lm_head.weight, though its config says tie_word_embeddings=False"):
        load_lm_head(str(untied))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def lfs(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n")


@pytest.mark.parametrize(
    "damage, says",
    [
        (cut, "bytes: fetch it again"),
        (lfs, "is a pointer of Git LFS"),
        (lambda path: path.write_bytes(b""), "no whole safetensors file"),
        (lambda path: path.write_bytes((10).to_bytes(8, "little") + b"0123456789"), "header cannot be read"),
    ],
)
def test_weights_that_are_not_whole_are_named(copied, damage, says):
    folder = copied("tied")
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=says) as refused:
        local_checkpoint(str(folder))
    assert str(folder / "model.safetensors") in str(refused.value)


def test_a_shard_that_the_index_names_must_be_there(copied):
    folder = copied("tied")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {TIED: "model-1.safetensors", "other": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="names model-2.safetensors, which is not there"):
        local_checkpoint(str(folder))
