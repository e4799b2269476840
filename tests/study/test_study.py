"""The study at its smallest: real engines on untrained models, a few tokens."""

import json

import pytest
import torch
from PIL import Image

from tests.study.conftest import SMALL
from verl_vaopd.diagnostics.__main__ import main as report
from verl_vaopd.study.__main__ import claimed, main
from verl_vaopd.study.arms import ARMS, VISUAL, Cell, Run
from verl_vaopd.study.figures import HeldOut, Training, labels_of, misread_tokens
from verl_vaopd.study.sampling import Sampler
from verl_vaopd.tiny.dilution.conversations import Conversations
from verl_vaopd.tiny.dilution.words import LENGTHS, VOCABULARY
from verl_vaopd.tiny.processor import make_processor


@pytest.fixture(scope="module")
def processor():
    return make_processor(VOCABULARY)


def records(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "updates.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_logs_its_updates_and_its_measurements(study):
    for arm in ("opd", "mass_distribution", "oracle"):
        found = records(study / arm / "seed_1")
        updates = [record for record in found if "weighted" in record]
        assert [record["update"] for record in updates] == [1, 2]
        assert [record["update"] for record in found if "nll" in record] == [0, 2]
        assert updates[0]["rate"] > 0 and updates[0]["grad_norm"] > 0
        # Of 2 prompts' weights, 1 in all; untrained models read no digits, so all of it is words.
        assert updates[0]["weighted"] > 0 and updates[0]["visual_tokens"] == updates[0]["misread_tokens"] == 0
        norms = {name: value for name, value in updates[0].items() if name.startswith("norm/")}
        assert norms["norm/vision/visual"] == 0 < norms["norm/vision/others"]
        whole = (norms["norm/vision/others"] ** 2 + norms["norm/language/others"] ** 2) ** 0.5
        assert whole == pytest.approx(updates[0]["grad_norm"], rel=1e-4)
    nll = {arm: [r["nll"] for r in records(study / arm / "seed_1") if "nll" in r] for arm in ("opd", "oracle")}
    assert nll["opd"][0] == nll["oracle"][0] != nll["opd"][1]  # one student, which learns


@pytest.mark.slow
def test_a_policy_gradient_learns_from_rewards_and_logs_what_there_is(study):
    """No KL; of ``grpo`` no high group either. Of an answer of T tokens ceil(T / 5) are high."""
    for arm in ("grpo", "grpo_va"):
        updates = [record for record in records(study / arm / "seed_1") if "grad_norm" in record]
        assert [record["update"] for record in updates] == [1, 2]
        first = updates[0]
        assert first["policy/advantage_abs"] > 0 and first["grad_norm"] > 0 and first["visual_tokens"] == 0
        assert not {"kl_sum", "weighted", "weighted_visual"} & set(first)
        assert first["norm/language/visual"] == 0 and first["policy_tokens"] == first["tokens"]
        whole = (first["norm/vision/others"] ** 2 + first["norm/language/others"] ** 2) ** 0.5
        assert whole == pytest.approx(first["grad_norm"], rel=1e-4)
    plain, by_va = (records(study / arm / "seed_1")[1] for arm in ("grpo", "grpo_va"))
    assert "high_tokens" not in plain and by_va["tokens"] / 5 <= by_va["high_tokens"] <= by_va["tokens"] / 5 + 8
    assert plain["tokens"] == by_va["tokens"] and plain["grad_norm"] != by_va["grad_norm"]


@pytest.mark.slow
def test_a_student_that_learns_from_its_frozen_self_is_the_teachers_model_and_starts_from_another_view(study):
    nll = {arm: [r["nll"] for r in records(study / arm / "seed_1") if "nll" in r] for arm in ("opd", "self_va")}
    assert nll["self_va"][0] not in (nll["opd"][0], nll["self_va"][1])
    first = next(record for record in records(study / "self_va" / "seed_1") if "weighted" in record)
    # Both are one model, which the two views part.
    assert first["kl_sum"] > 0 and first["grad_norm"] > 0


def test_arms_that_learn_from_rewards_are_done_where_they_are_named_only(models, tmp_path, capsys):
    arguments = ["--models", str(models), "--output", str(tmp_path), "--seeds", "1", "--dry-run", *SMALL]
    assert main(arguments) == 0
    assert "grpo" not in capsys.readouterr().out
    assert main([*arguments, "--arms", "grpo_va"]) == 0
    assert "grpo_va/seed_1  GRPO, tokens by VA" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_done_is_not_done_again(study, models, monkeypatch, capsys):
    folder = study / "opd" / "seed_1"
    before = (folder / "updates.jsonl").stat().st_mtime_ns
    monkeypatch.setattr(
        "verl_vaopd.study.__main__.do", lambda runs, options: [next(claimed(folder), "done")] != ["done"]
    )
    output = study.parents[1]
    arguments = ["--models", str(models), "--output", str(output), "--seeds", "1", "--arms", "opd", *SMALL]
    assert main([*arguments, "--cells", "all-1e-3-0"]) == 0
    assert (folder / "updates.jsonl").stat().st_mtime_ns == before
    assert main([*arguments, "--cells", "all-1e-3-0", "--dry-run"]) == 0
    assert str(folder) in capsys.readouterr().out


def test_a_stopped_run_is_begun_anew_and_one_that_is_on_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "updates.jsonl").write_text("torn")
    taken = claimed(folder)
    next(taken)
    assert not folder.exists() and list(claimed(folder)) == []


@pytest.mark.slow
def test_the_report_of_a_study(study, tmp_path, capsys):
    runs = [str(path.parent) for path in sorted(study.glob("*/seed_1/summary.json"))]
    assert len(runs) == 6 and report([*runs, "--output", str(tmp_path)]) == 0
    table = (tmp_path / "table.md").read_text()
    assert "| all trained, rate 0.001, 0 | oracle | 1 |" in table and "Standard OPD" in table
    row = next(line for line in table.splitlines() if "GRPO, tokens by VA" in line).split(" | ")
    assert row[6:9] == [""] * 3 and row[9].endswith("%") and row[10] == " |"  # no KL; no token is visual
    names = {path.name for path in tmp_path.iterdir()}
    assert {"dilution_gain.png", "dilution_gain.svg", "dilution_shares.png", "report.html"} <= names
    (study / "opd" / "seed_1" / "summary.json").rename(study / "opd" / "kept.json")
    assert report([*runs, "--output", str(tmp_path)]) == 2
    assert "has not ended" in capsys.readouterr().err
    (study / "opd" / "kept.json").rename(study / "opd" / "seed_1" / "summary.json")


RATES = ("frozen-inf-160", "frozen-nan-160", "frozen-2.0000001e-5-160", "frozen--2e-5-160")


@pytest.mark.parametrize("name", ["frozen-2e-5", "half-2e-5-160", "frozen-0-160", "frozen-2e-5-80", "all-x-0", *RATES])
def test_a_cell_that_is_none_is_named(name):
    with pytest.raises(ValueError, match="must read REGIME-RATE-WORDS"):
        Cell.named(name)
    assert Cell.named("frozen-2e-5-160").name == "frozen-2e-05-160"
    assert Cell.named("lora-2e-4-160").name == "lora-0.0002-160"


@pytest.mark.parametrize("words", LENGTHS)
def test_a_matched_fraction_is_the_share_of_visual_tokens(words):
    # of an answer of 38 tokens without words
    assert ARMS["vaopd_matched"].config("m", words).high_fraction == VISUAL / (38 + words)
    assert ARMS["vaopd"].config("m", words).high_fraction == 0.2


def test_held_out_figures_end_with_their_reading(processor):
    talk = Conversations(processor)
    held_out = HeldOut.of(talk, 40, "validation", 4, seed=0)
    assert held_out.digits.sum(1).tolist() == [4] * 4
    for row, ids, digits in zip(held_out.rows, held_out.ids, held_out.digits, strict=True):
        assert processor.tokenizer.decode(ids[digits]) == "{}{}".format(*labels_of(row))


def test_misread_digits_are_those_that_are_not_the_figures(processor):
    """Said: 14 and 39. Of a figure with 14 and 39 none is misread, of 13 and 39 the 4, of 94 and 31 the 1 and the 9; of
    a reading that lacks a digit the others count."""
    ids = Conversations(processor).answer((14, 39), torch.empty(0, 8, dtype=torch.long))
    for labels, wrong in (((14, 39), ""), ((13, 39), "4"), ((94, 31), "19"), ((41, 93), "1439")):
        assert processor.tokenizer.decode(ids[misread_tokens(ids, labels)]) == wrong
    ones = int((ids == processor.tokenizer("4").input_ids[0]).nonzero()[0])
    short = torch.cat([ids[:ones], ids[ones + 1 :]])
    assert processor.tokenizer.decode(short[misread_tokens(short, (24, 39))]) == "1"


def test_training_batches_hang_on_the_seed_and_their_prompt_is_the_samplers(processor):
    talk = Conversations(processor)
    one, same, other = (Training(processor, 160, seed).batch(2) for seed in (1, 1, 2))
    assert one[3] == same[3] != other[3]
    assert torch.equal(one[0], same[0]) and not torch.equal(one[0], other[0])
    text = Training(processor, 160, 1).text
    ids = processor(text=[text], images=[torch.zeros(3, 64, 64)], return_tensors="pt").input_ids[0]
    assert torch.equal(ids, talk.prompts[160])


def test_a_student_that_is_shown_the_degraded_view_sees_nothing_else(processor):
    def black(image):
        return Image.new("RGB", image.size)

    usual, shown = (Training(processor, 0, 1, black, shows_degraded=shows).batch(2) for shows in (False, True))
    assert usual[0].any() and not shown[0].any()
    for name in ("0", "1"):  # the teacher's views are the same
        for place in (1, 2):
            assert torch.equal(usual[place][name].pixel_values, shown[place][name].pixel_values)
    talk = Conversations(processor)
    assert HeldOut.of(talk, 0, "validation", 2, seed=0).patches.any()
    assert not HeldOut.of(talk, 0, "validation", 2, seed=0, degrade=black).patches.any()


def test_the_sampler_says_what_transformers_says(models, processor):
    sampler, talk = Sampler(models / "student", processor.tokenizer), Conversations(processor)
    patches, *_ = Training(processor, 40, 1).batch(3)
    prompt = talk.prompts[40]
    answers = sampler.answers(prompt, patches, 1, 12)
    again = sampler.answers(prompt, patches, 2, 12)
    assert [row.tolist() for row in again[::2]] == [row.tolist() for row in answers]  # siblings together
    for answer, own in zip(answers, patches, strict=True):
        ids = torch.cat([prompt, answer])[None]
        where = torch.zeros(ids.shape, dtype=torch.bool)
        where[:, len(prompt) :] = True
        greedy = sampler.log_probs(ids, own[None], talk.image_start, where)
        # Each token of a greedy answer is at least as likely as another that is not banned.
        for place in range(len(answer)):
            changed = ids.clone()
            changed[0, len(prompt) + place] = 5
            at = torch.zeros_like(where)
            at[0, len(prompt) + place] = True
            assert greedy[place] >= sampler.log_probs(changed, own[None], talk.image_start, at)[0] - 1e-5
    drawn = sampler.answers(prompt, patches, 2, 12, torch.Generator().manual_seed(0))
    assert len(drawn) == 6 and Run(Cell.named("all-1e-3-0"), "opd", 1).name.endswith("opd/seed_1")
