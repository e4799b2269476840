"""An image file is sent as what it is, whatever its name says."""

import io

import pytest
from PIL import Image

from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.generation import chat_message


def image(kind: str, **options) -> bytes:
    Image.new("RGB", (8, 8)).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "name, data, wanted",
    [
        ("a.png", image("PNG"), "image/png"),
        ("phone.mpo", image("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), "image/jpeg"),
        ("a.webp", image("WEBP"), "image/webp"),
        ("without_an_ending", image("JPEG"), "image/jpeg"),
        ("wrong.png", image("GIF"), "image/gif"),
    ],
)
def test_media_type_comes_from_the_bytes(tmp_path, name, data, wanted):
    (tmp_path / name).write_bytes(data)
    message = chat_message([{"image": str(tmp_path / name)}])
    assert message["content"][0]["image_url"]["url"].startswith(f"data:{wanted};base64,")


def test_a_file_without_an_image_is_named(tmp_path):
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(EvaluationError, match="page.html holds no image"):
        chat_message([{"image": str(tmp_path / "page.html")}])
