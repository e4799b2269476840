"""Processor and untrained models: visual tokens, padded heads, loading, the batched training forward."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from verl_vaopd.algorithm import pixelate
from verl_vaopd.data.synthetic_geometry import draw_pool, make_rows
from verl_vaopd.tiny import random_models
from verl_vaopd.tiny.accuracy import accuracy, answers, chat_prompt
from verl_vaopd.tiny.figure_batch import Conversations, read_aloud, see, to_patches
from verl_vaopd.tiny.models import head_rows, make_config, make_model
from verl_vaopd.tiny.student import make_student
from verl_vaopd.tiny.train_teacher import TeacherSettings, in_rounds


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("random"), seed=1)


@pytest.fixture(scope="module")
def model(processor):
    return make_model(make_config(processor.tokenizer, teacher=True), seed=0, std=0.15)


def encode(processor, *images):
    text = chat_prompt(processor, "What?").replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|image_pad|><|vision_end|>" * len(images)
    )
    return processor(text=[text], images=list(images), return_tensors="pt")


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((64, 64), 16), ((96, 64), 24), ((128, 64), 32)],  # width * height / 16**2
)
def test_visual_tokens(processor, size, tokens):
    image = Image.effect_noise(size, 60).convert("RGB")
    for view in (image, pixelate(image)):
        inputs = encode(processor, view)
        assert (inputs.input_ids == processor.image_token_id).sum() == tokens
        assert inputs.image_grid_thw.tolist() == [[1, size[1] // 8, size[0] // 8]]


def test_heads_are_padded_differently(tokenizer):
    ids = len(tokenizer)
    student, teacher = (make_config(tokenizer, teacher=which).text_config.vocab_size for which in (False, True))
    assert ids == 414 and student == 448 and teacher == 512
    assert head_rows(448, teacher=False) == 448


def test_width_that_heads_cannot_share_is_refused(tokenizer):
    with pytest.raises(ValueError, match="multiples of 32"):
        make_config(tokenizer, teacher=False, hidden=100)


def test_random_models_load_and_run(folders):
    widths = []
    for folder in folders:
        processor = AutoProcessor.from_pretrained(folder)
        loaded = AutoModelForImageTextToText.from_pretrained(folder)
        widths.append(loaded.config.text_config.hidden_size)
        assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id
        assert loaded.generation_config.pad_token_id == processor.tokenizer.pad_token_id
        assert loaded.config.image_token_id == processor.image_token_id
        inputs = encode(processor, Image.new("RGB", (64, 64)), Image.new("RGB", (96, 64)))
        log_probs = loaded(**inputs).logits[0].log_softmax(-1)
        spread = log_probs.std(-1)
        assert torch.isfinite(log_probs).all() and spread.min() > 0.3  # a uniform distribution has 0
    assert widths == [64, 128]
    vocabularies = [AutoProcessor.from_pretrained(folder).tokenizer.get_vocab() for folder in folders]
    assert vocabularies[0] == vocabularies[1]


def test_equal_seeds_give_equal_weights(processor):
    config = make_config(processor.tokenizer, teacher=False, hidden=64, vision_hidden=32)
    first, second, other = (make_model(config, seed, std=0.1).lm_head.weight for seed in (2, 2, 3))
    assert torch.equal(first, second) and not torch.equal(first, other)


@torch.no_grad()
def test_batched_forward_equals_the_models_own(processor, model):
    images, labels = draw_pool("train", 3, seed=5)
    pairs = [tuple(pair) for pair in labels.tolist()]
    talk = Conversations(processor, pairs)
    ids = talk.ids[[talk.index[pair] for pair in pairs]]
    patches = to_patches(images)
    inputs = processor.image_processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    own = model.model.visual(inputs.pixel_values, grid_thw=inputs.image_grid_thw)
    tokens, deepstack = see(model.model.visual, patches)
    torch.testing.assert_close(tokens.flatten(0, 1), own.pooler_output, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(deepstack[0].flatten(0, 1), own.deepstack_features[0], rtol=1e-4, atol=1e-4)
    expected = model.model(
        input_ids=ids, mm_token_type_ids=(ids == processor.image_token_id).int(), **inputs
    ).last_hidden_state
    hidden = read_aloud(model, patches, ids, talk.image_start, talk.positions)
    torch.testing.assert_close(hidden, expected, rtol=1e-3, atol=1e-3)


def test_conversations_mark_the_answer(processor):
    talk = Conversations(processor, [(19, 48)])
    text = processor.tokenizer.decode(talk.ids[0][talk.is_answer[0]])
    assert text == "The sides are 19 and 48. Ones: 9+8=17. Tens: 1+4+1=6. \\boxed{67}<|im_end|>"


def test_student_differs_from_the_teacher_in_vision_and_padding_only(processor, model):
    student = make_student(model, processor, seed=3, noise=0.5)
    theirs = dict(student.named_parameters())
    for name, weight in model.named_parameters():
        other = theirs[name]
        if name.endswith("embed_tokens.weight"):
            assert other.shape[0] == 448 and torch.equal(other, weight[:448])
        elif ".visual." not in name:
            assert torch.equal(other, weight), name
    assert student.lm_head.weight is student.get_input_embeddings().weight
    # Every matrix of the vision tower is noisy; its one-dimensional weights are not.
    for name, weight in model.named_parameters():
        if ".visual." in name:
            assert torch.equal(weight, theirs[name]) == (weight.dim() == 1), name


def test_answers_hold_no_special_token(processor, model):
    rows = make_rows("test", 3)
    seen = []

    def view(image):
        seen.append(np.asarray(image).shape)
        return image

    torch.manual_seed(0)
    texts = answers(model, processor, rows, view=view, sample=True)
    assert len(texts) == 3 and seen == [(64, 64, 3)] * 3
    assert not any("<|" in text for text in texts)


def test_accuracy_takes_the_last_box():
    rows = [{"reward_model": {"ground_truth": "68"}}] * 4
    texts = ["\\boxed{68}", "\\boxed{67} or \\boxed{68}", "\\boxed{68} or \\boxed{67}", "68"]
    assert accuracy(texts, rows) == 0.5


@pytest.mark.parametrize("shares, rounds", [([1.0], 1), ([0.5, 1.0], 2), ([0.5, 0.6, 0.7, 0.8], 3)])
def test_a_teacher_that_reads_too_little_learns_on(shares, rounds, capsys):
    """At a third of the steps and half the rate, twice at most; processors round differently."""
    learnt, found = [], iter(shares)
    settings = TeacherSettings(answer_steps=600, answer_lr=2e-3)
    in_rounds(lambda given: learnt.append((given.answer_steps, given.answer_lr)), lambda: next(found) > 0.9, settings)
    assert learnt == [(600, 2e-3), (200, 1e-3), (200, 1e-3)][:rounds]
    assert capsys.readouterr().out.count("answers: 200 steps more") == rounds - 1
