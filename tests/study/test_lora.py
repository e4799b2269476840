"""The regime with adapters: what moves, and what the sampler is given."""

import json
import os
import subprocess
import sys

import pytest

from tests.stack import ROOT

pytestmark = pytest.mark.slow


def test_adapters_alone_move_and_the_sampler_has_them(models, tmp_path):
    command = [sys.executable, "-m", "tests.study.lora_rank", models, tmp_path]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "VERL_PLATFORM": "cpu"}, check=True, timeout=1800)
    found = json.loads((tmp_path / "lora.json").read_text())
    assert found["moved"] == found["adapters"] and found["ranks"] == [8]
    # A and B of the seven linear layers (q, k, v, o, gate, up, down) of each layer of the language model
    assert {name.split(".layers.")[0] for name in found["adapters"]} == {"model.language_model"}
    assert len(found["adapters"]) % (2 * 7) == 0
    assert found["from_peft"] < 1e-4 and found["from_untrained"] > 1e-2  # nats
