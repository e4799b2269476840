"""The task with a heavy tail of lengths: its folder, its conversations, the training forward on larger figures."""

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from verl_vaopd.data.perimeter import draw_pool, worked_answer
from verl_vaopd.tiny.__main__ import main
from verl_vaopd.tiny.cache import fingerprint, read_manifest
from verl_vaopd.tiny.figure_batch import read_aloud, see, to_patches
from verl_vaopd.tiny.models import make_config, make_model
from verl_vaopd.tiny.perimeter.build import MAX_NEW_TOKENS
from verl_vaopd.tiny.perimeter.training import ROUND, Conversations
from verl_vaopd.tiny.tasks import TASKS

FEW, MANY = (2, 3, 4), (9, 1, 8, 7, 9, 9, 9, 9, 8, 9, 9, 9)


def test_the_command_makes_a_folder_of_the_task(tmp_path):
    assert main(["--output", str(tmp_path / "tiny"), "--task", "perimeter", "--random"]) == 0
    manifest = read_manifest(tmp_path / "tiny", TASKS["perimeter"])
    assert manifest["fingerprint"]["task"] == "perimeter"
    row = pq.read_table(tmp_path / "tiny" / "data" / "validation.parquet").to_pylist()[0]
    assert row["data_source"] == "synthetic_perimeter"


def test_the_figures_are_what_is_made_without_a_task():
    figures = fingerprint(seed=0, trained=True)
    assert figures == fingerprint(seed=0, trained=True, task=TASKS["figures"])
    assert list(figures) == ["seed", "trained", "libraries", "code"]
    assert figures["code"] != fingerprint(seed=0, trained=True, task=TASKS["perimeter"])["code"]


def test_answers_take_from_30_tokens_to_more_than_200(tokenizer):
    few, many = (len(tokenizer(worked_answer(numbers)).input_ids) + 1 for numbers in (FEW, MANY))
    assert few == 30 and 200 < many < MAX_NEW_TOKENS


def test_conversations_of_like_length_go_together(processor):
    talk = Conversations(processor, [FEW, MANY], visual_tokens=36)
    (first, short, is_answer, _), (second, long, _, positions) = talk.batches([1, 0, 0], [0, 3, 1])
    assert first == [0, 0] and second == [1] and short.shape[1] < long.shape[1]
    assert short.shape[1] % ROUND == long.shape[1] % ROUND == 0 and positions.shape == (3, 1, long.shape[1])
    assert (short == processor.image_token_id).sum(1).tolist() == [36, 36]
    assert processor.tokenizer.decode(short[0][is_answer[0]]) == worked_answer(FEW) + "<|im_end|>"


@torch.no_grad()
def test_batched_forward_equals_the_models_own(processor):
    model = make_model(make_config(processor.tokenizer, teacher=True), seed=0, std=0.15)
    images, numbers, _ = draw_pool("train", 2, seed=1)
    talk = Conversations(processor, numbers, visual_tokens=36)
    inputs = processor.image_processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    own = model.model.visual(inputs.pixel_values, grid_thw=inputs.image_grid_thw)
    patches = to_patches(images)
    tokens, _ = see(model.model.visual, patches)
    assert tokens.shape[1] == 36
    torch.testing.assert_close(tokens.flatten(0, 1), own.pooler_output, rtol=1e-4, atol=1e-4)
    for rows, ids, _, positions in talk.batches([0], [2]):
        seen = processor.image_processor(images=[Image.fromarray(images[0])], return_tensors="pt")
        expected = model.model(input_ids=ids, mm_token_type_ids=(ids == processor.image_token_id).int(), **seen)
        hidden = read_aloud(model, patches[rows], ids, talk.image_start, positions)
        torch.testing.assert_close(hidden, expected.last_hidden_state, rtol=1e-3, atol=1e-3)


def test_another_task_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        main(["--output", "nowhere", "--task", "area"])
    assert "perimeter" in capsys.readouterr().err
