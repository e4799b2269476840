"""Layers of a vision tower whose output nothing reads, known from the config, against what a backward reaches."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.random_configs import CONFIGS
from tests.random_models import ENCODERS
from verl_vaopd.model.families import family_of


def parts_of(config) -> tuple[set[str], set[str]]:
    """All parameters of the tower by name, and those without a gradient after a backward from an image's features."""
    model = AutoModelForImageTextToText.from_config(config)
    images, _ = ENCODERS[config.model_type]([(4, 4)], torch.Generator().manual_seed(0))
    features = model.model.get_image_features(**images.tensors).pooler_output
    torch.cat([each.flatten() for each in features]).sum().backward()
    tower = {name: each for name, each in model.named_parameters() if ".vision_tower." in name}
    return set(tower), {name for name, each in tower.items() if each.grad is None}


@pytest.mark.parametrize(
    "family, own, tower, count",
    [
        ("gemma3", {}, {}, 0),
        ("gemma3", {}, {"vision_use_head": True}, 1),  # the head
        ("llava_onevision", {}, {}, 1),  # the last layer's features, before the last norm
        ("llava_onevision", {"vision_feature_layer": -2}, {"vision_use_head": True}, 3),  # a layer, norm, head
        ("llava", {}, {}, 2),  # its default is -2
        ("llava", {"vision_feature_layer": 1}, {}, 2),  # the same of two layers
        ("llava", {"vision_feature_layer": [0, -1]}, {}, 1),  # the embeddings and the last
    ],
)
def test_layers_that_nothing_reads(family, own, tower, count):
    config = CONFIGS[family](64, 2, 112, True)
    for settings, given in ((config, own), (config.vision_config, tower)):
        for name, value in given.items():
            setattr(settings, name, value)
    unread = family_of(config).unread
    everything, unreached = parts_of(config)
    assert len(unread) == count
    assert unreached == {name for name in everything if name.startswith(tuple(f"{layer}." for layer in unread))}


@pytest.mark.parametrize("family", ["qwen3_vl", "internvl", "glm4v"])
def test_other_towers_are_read_whole(family):
    assert family_of(CONFIGS[family](64, 2, 112, True)).unread == []
