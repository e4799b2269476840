"""Folders of runs as training leaves them: written by RunLog, with the config that hydra composes."""

import math
import random
from functools import cache
from pathlib import Path

import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from verl_vaopd.rollout.image_views import thumbnail
from verl_vaopd.runlog.run_log import RunLog
from verl_vaopd.settings.compose import compose

STEPS = range(0, 81, 20)
WORDS = ["The", " figure", " shows", " a", " side", " of", " {0}", " and", " one", " of", " {1}", ",", " so", " the"]
WORDS += [" sum", " is", "\n", "\\boxed{{", "{2}", "}}", ".", "<|im_end|>"]


def write_run(path: Path, *settings: str, seed: int = 42, gain=0.4, va_gain=0.1, seconds=3.0, views=True) -> Path:
    """A run of 80 steps whose accuracy goes from 30% up by ``gain`` and whose mean VA from 0.6 nats by ``va_gain``."""
    log = RunLog(str(path))
    own = OmegaConf.from_dotlist([f"data.seed={seed}", f"vaopd.output_dir={path}", *settings])
    (path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.merge(composed(), own), resolve=True))
    draw = random.Random(f"{seed}{settings}")
    bend = 1 + 0.2 * draw.random()
    for step in range(STEPS[-1] + 1):
        record = {"step": step}
        if step:
            record |= {"loss": 1 / step, "time/step": seconds + 10 * (step % 20 == 0), "accuracy": 0.5}
            record |= {"time/save_checkpoint": 10.0} if step % 20 == 0 else {}
        if step in STEPS:
            done = (1 - math.exp(-bend * 3 * step / 80)) / (1 - math.exp(-3))
            record["val/accuracy"] = 0.3 + gain * done + (0.02 * draw.random() if step else 0)
            if views:
                record |= {"val/va/mean": 0.6 + va_gain * done + 0.01 * draw.random(), "val/va/top10_share": 0.99}
                log.rollouts(step, [answer(log, draw, problem, step / 80) for problem in range(12)], kind="validation")
        if step:
            log.metrics(record)
        elif "val/accuracy" in record:
            log.metrics({**record, "time/wall": 0.0})
    return path


@cache
def composed():
    return compose(
        "tiny_cpu",
        [
            *("actor_rollout_ref.model.path=student", "vaopd.teacher.path=teacher"),
            *("data.train_files=train.parquet", "data.val_files=validation.parquet"),
        ],
    )


def answer(log: RunLog, draw: random.Random, problem: int, skill: float) -> dict:
    """One logged rollout: three numbers carry the VA, more of them the better the student reads."""
    numbers = [problem + 3, problem + 5, 2 * problem + 8]
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).text((10 + problem, 30), f"{numbers[0]} and {numbers[1]}", fill="black")
    tokens = [word.format(*numbers) for word in WORDS]
    va = [
        5 * (0.3 + 0.7 * skill) * draw.random() if word.strip() in {"{0}", "{1}", "{2}"} else 0.02 * draw.random()
        for word in WORDS
    ]
    return {
        "id": f"geometry/{problem}",
        "question": f"user\nAdd the numbers of figure {problem}. <b>Box</b> it & stop.\nassistant\n",
        "image": log.image(thumbnail([image]).numpy().tobytes()),
        "tokens": tokens,
        "token_ids": list(range(len(tokens))),
        "accuracy": float(draw.random() < 0.3 + 0.6 * skill),
        "mean_va": sum(va) / len(va),
        "va": torch.tensor(va).tolist(),
    }
