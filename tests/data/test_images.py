"""Whatever an image file holds, every reader of a row gets the same upright RGB pixels, before anything is pickled."""

import copy
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from tests.checks.odd_images import NOT_RGB, ODD_IMAGES
from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.dataset import VisionDataset, images_of
from verl_vaopd.data.images import as_rgb, check_image
from verl_vaopd.data.synthetic_geometry import make_row
from verl_vaopd.tiny.processor import make_processor


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """Each odd image as a row of a file, read by the data set of training; some as ``datasets`` itself writes them."""
    folder = tmp_path_factory.mktemp("odd")
    rows = []
    for index, (data, *_) in enumerate(ODD_IMAGES.values()):
        rows.append(make_row("train", index) | {"images": [{"bytes": data, "path": None}]})
    pq.write_table(pa.Table.from_pylist(rows), folder / "plain.parquet")
    import datasets

    features = datasets.Features({"prompt": [{"role": datasets.Value("string"), "content": datasets.Value("string")}]})
    features["images"] = datasets.Sequence(datasets.Image())
    kept = [{name: row[name] for name in features} for row in rows]
    datasets.Dataset.from_list(kept, features=features).to_parquet(folder / "typed.parquet")
    processor = make_processor()
    config = OmegaConf.create({"cache_dir": str(folder), "filter_overlong_prompts": False, "max_prompt_length": 512})
    return {
        kind: VisionDataset(str(folder / f"{kind}.parquet"), processor.tokenizer, config, processor)
        for kind in ("plain", "typed")
    }


@pytest.mark.parametrize("kind", ["plain", "typed"])
@pytest.mark.parametrize("name", ODD_IMAGES)
def test_odd_images_mean_the_same_to_every_reader(chats, kind, name):
    data, grey, allowed = ODD_IMAGES[name]
    row = chats[kind][list(ODD_IMAGES).index(name)]
    first, again = (images_of(chat)[0] for chat in (row["raw_prompt"], pickle.loads(pickle.dumps(row["raw_prompt"]))))
    assert first.mode == again.mode == "RGB" and first.tobytes() == again.tobytes()
    assert not first.info and not first.getexif()  # nothing that a later reader could act on
    pixels = np.asarray(first).astype(int)
    assert np.abs(pixels - grey[..., None]).max() <= allowed
    assert check_image(data, "images[0]") == first.size
    assert as_rgb(first).tobytes() == first.tobytes()


@pytest.mark.parametrize("name", NOT_RGB)
def test_images_without_a_meaning_are_refused(name):
    with pytest.raises(RowError, match="images\\[0\\]"):
        check_image(NOT_RGB[name], "images[0]")


def test_a_refusal_travels_between_processes():
    error = RowError("images[0]", "unreadable_image", "is cut off", "replace it")
    assert vars(copy.deepcopy(error)) == vars(pickle.loads(pickle.dumps(error))) == vars(error)
