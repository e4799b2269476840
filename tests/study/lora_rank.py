"""One update of the study with adapters; run by test_lora.py: python -m tests.study.lora_rank MODELS FOLDER

Leaves ``lora.json`` in FOLDER: which parameters moved, and how far log-probabilities are from PEFT's and from before.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from verl_vaopd.model.vision import ImageInputs
from verl_vaopd.student.adapters import adapter_weights, peft_config
from verl_vaopd.student.hugging_face import ADAPTER_FOLDER, write_adapter
from verl_vaopd.study.arms import ARMS, REGIMES
from verl_vaopd.study.engines import Pair, build_student, one_rank
from verl_vaopd.study.figures import HeldOut, Training
from verl_vaopd.study.run import Study
from verl_vaopd.study.sampling import Sampler


def snapshot(module) -> dict[str, Tensor]:
    return {name: each.full_tensor().detach().clone() for name, each in module.named_parameters()}


def rows_of(study: Study, images: dict[str, ImageInputs]) -> list[tuple]:
    """Two answers to each prompt, of four random tokens."""
    prompt = study.talk.prompts[0]
    answers = torch.randint(20, 60, (2 * len(images), 4), generator=torch.Generator().manual_seed(0))
    none = torch.zeros(4, dtype=torch.bool)  # misread
    return [(f"{place // 2}", torch.cat([prompt, answer]), 4, none) for place, answer in enumerate(answers)]


def main(models: Path, folder: Path) -> None:
    one_rank()
    study, path = Study(models), str(models / "student")
    student = build_student(path, REGIMES["lora"], rate=1e-2, updates=4)  # too few for a warm-up
    pair = Pair(ARMS["opd"].config(str(models), 0), study.teacher, student, len(study.processor.tokenizer))
    held_out = HeldOut.of(study.talk, 0, "validation", 4, seed=0)
    _, original, degraded, _ = Training(study.processor, 0, 1, pair.second_view).batch(2)
    module, plain = student.engine.module, Sampler(path, study.processor.tokenizer)

    def log_probs(sampler: Sampler) -> Tensor:
        return sampler.log_probs(held_out.ids, held_out.patches, study.talk.image_start, held_out.digits)

    before, untrained = snapshot(module), log_probs(plain)
    for _ in range(2):  # B is zero at first, so the first moves no A
        pair.update(rows_of(study, original), [0.0] * 4, original, degraded, with_norms=False)
    plain.take(module)
    found = log_probs(plain)
    write_adapter(str(folder), peft_config(module, path), adapter_weights(module, "cpu"))
    unmerged = Sampler(path, study.processor.tokenizer)
    unmerged.model = PeftModel.from_pretrained(unmerged.model, folder / ADAPTER_FOLDER).get_base_model()
    after = snapshot(module)
    report = {
        "ranks": sorted({min(each.shape) for name, each in after.items() if ".lora_" in name}),
        "adapters": [name for name in after if ".lora_" in name],
        "moved": [name for name in after if not torch.equal(after[name], before[name])],
        "from_peft": float((found - log_probs(unmerged)).abs().max()),
        "from_untrained": float((found - untrained).abs().max()),
    }
    (folder / "lora.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
