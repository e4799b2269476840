"""The diluted task: what an answer is made of, which of it is visual, and that only this task knows."""

import json

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.methods import Step, Views, method_names, method_of
from verl_vaopd.settings.config import VAOPDConfig
from verl_vaopd.settings.teacher import TeacherConfig
from verl_vaopd.tiny.__main__ import main
from verl_vaopd.tiny.cache import MANIFEST, fingerprint
from verl_vaopd.tiny.dilution.build import rows_of
from verl_vaopd.tiny.dilution.conversations import Conversations
from verl_vaopd.tiny.dilution.truth import visual_tokens
from verl_vaopd.tiny.dilution.words import LENGTHS, PHRASE, VOCABULARY, WORDS, styles
from verl_vaopd.tiny.processor import make_processor
from verl_vaopd.tiny.tasks import TASKS
from verl_vaopd.tiny.tokenizer import make_tokenizer

ORACLE = "pkg://verl_vaopd.tiny.dilution.oracle:Oracle"


@pytest.fixture(scope="module")
def talk():
    return Conversations(make_processor(VOCABULARY))


def said(talk, pair, words):
    phrases = styles(0)[0].phrases(words // PHRASE, torch.Generator().manual_seed(1))
    return talk.answer(pair, phrases)


@pytest.mark.parametrize("words", LENGTHS)
def test_an_answer_is_half_of_the_words_the_reading_the_rest_and_the_sum(talk, words):
    ids = said(talk, (14, 39), words)
    text = talk.tokenizer.decode(ids, skip_special_tokens=True)
    # 14 + 39 = 53: "The sides are 14 and 39." has 11 tokens, the sum 27 with its end of turn
    assert len(ids) == words + 38 + 1 and text.count(" note") == words // 8
    before, _, after = text.partition("The sides are 14 and 39.")
    assert len(talk.tokenizer(before).input_ids) == words // 8 // 2 * 8
    assert after.endswith("Ones: 4+9=13. Tens: 1+3+1=5. \\boxed{53}")
    assert talk.tokenizer(text).input_ids == ids[:-1].tolist()  # a word is one token


@pytest.mark.parametrize("words", LENGTHS)
def test_the_visual_tokens_are_the_digits_of_the_reading(talk, words):
    ids = said(talk, (14, 39), words)
    found = visual_tokens(torch.stack([ids, ids]))
    assert found.sum(dim=1).tolist() == [4, 4]
    assert talk.tokenizer.decode(ids[found[0]]) == "1439"
    # Answers one after the other, as an engine has them, are told apart all the same.
    assert visual_tokens(torch.cat([ids, ids])).sum() == 8


def test_styles_differ_and_words_hang_on_those_before():
    one, other = styles(0)
    chances = one.log_probs.exp()
    assert chances.shape == (41, 41, 40) and torch.allclose(chances.sum(-1), torch.ones(41, 41))
    entropies = [float(-(style.log_probs.exp() * style.log_probs).sum(-1).mean()) for style in (one, other)]
    # Normal logits of spread s over endless words: log 40 - s^2 / 2 = 2.84 for 1.3; of 40, and for 1.8, somewhat more.
    assert entropies[0] == pytest.approx(2.84, abs=0.2) and 2.2 < entropies[1] < 2.6
    assert torch.equal(other.log_probs[3, 7], other.log_probs[9, 7])  # the student's hang on the last token alone
    assert not torch.equal(one.log_probs[3, 7], one.log_probs[9, 7])
    phrases = one.phrases(4000, torch.Generator().manual_seed(0))
    assert (phrases[:, 0] == 0).all() and (phrases[:, 1:] > 0).all() and len(WORDS) == 40
    # of the first words, which follow a marker twice or once, the commonest is that of the table
    counts = torch.bincount(phrases[:, 1] - 1, minlength=40) / 4000
    assert (counts - chances[0, 0]).abs().max() < 0.03


def test_the_task_is_made_once_and_beside_the_figures(tmp_path, capsys):
    assert main(["--task", "dilution", "--output", str(tmp_path / "one"), "--random"]) == 0
    assert main(["--task", "dilution", "--output", str(tmp_path / "one"), "--random"]) == 0
    assert "complete" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "one" / MANIFEST).read_text())
    assert manifest["fingerprint"]["task"] == "dilution" and "task" not in fingerprint(0, True)
    assert manifest["fingerprint"]["code"] != fingerprint(0, False)["code"]
    rows = pd.read_parquet(tmp_path / "one" / "data" / "validation_160.parquet")
    assert rows["prompt"][0][0]["content"].endswith("labelled sides? Twenty notes.")
    assert {path.name for path in (tmp_path / "one" / "data").iterdir()} == set(TASKS["dilution"].data)


def test_figures_are_the_same_for_every_number_of_words():
    first, last = (rows_of("validation", words, 2, seed=0) for words in (0, 160))
    assert [row["images"] for row in first] == [row["images"] for row in last]
    assert first[0]["images"] == make_row("validation", 0)["images"]


def oracle(**settings):
    return method_of(
        VAOPDConfig(teacher=TeacherConfig(path="t"), output_dir="x", method=ORACLE, rollout_weighting=False, **settings)
    )


def test_the_oracle_weighs_the_digits_by_truth(talk):
    ids = said(talk, (14, 39), 40)
    hidden, head = torch.randn(2 * len(ids), 8), torch.randn(512, 8)
    views = Views(hidden, torch.cat([ids, ids]), head, len(ids), slice(None), len(talk.tokenizer), None)
    scored = oracle().score(views)
    assert set(scored) == set(oracle().score_names) == {"logp_original", "logp_pixelated", "visual"}
    columns = {name: values[None] for name, values in scored.items()}
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    weights = oracle().weigh(Step(columns, mask, ["a"], None)).student["token_weights"][0]
    # 79 tokens: half on 4, half on 75
    digits = visual_tokens(ids)
    assert weights[digits].tolist() == pytest.approx([0.125] * 4)
    assert weights[~digits].tolist() == pytest.approx([0.5 / 75] * 75)


def test_the_oracle_is_reached_from_its_task_alone(talk):
    assert "oracle" not in method_names()
    views = Views(torch.randn(4, 8), torch.zeros(4, dtype=torch.long), torch.randn(64, 8), 2, slice(None), 50, None)
    with pytest.raises(ValueError, match="--task dilution"):
        oracle().score(views)


def test_the_oracle_refuses_other_models_before_anything_starts(tmp_path):
    def refused(student):
        trainer, model = {"v1": {"trainer_mode": "sync"}}, {"path": str(student)}
        config = OmegaConf.create({"trainer": trainer, "actor_rollout_ref": {"model": model}})
        return [(name, wanted) for wrong, name, _, wanted in oracle().refusals(config) if wrong]

    for name, words in (("task", VOCABULARY), ("figures", ()), ("as_many", VOCABULARY[::-1])):
        make_tokenizer(words).save_pretrained(tmp_path / name)
    assert refused(tmp_path / "task") == refused(tmp_path / "not here yet") == []
    for other in ("figures", "as_many"):
        ((name, wanted),) = refused(tmp_path / other)
        assert name == "actor_rollout_ref.model.path" and "--task dilution" in wanted
