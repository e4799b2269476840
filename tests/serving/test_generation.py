import base64

from PIL import Image

from verl_vaopd.serving.generation import chat_message


def test_images_go_to_the_server_as_they_are(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    as_it_is = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    message = chat_message([{"image": str(tmp_path / "a.png")}, {"text": "What is it?"}])
    image, text = message["content"]
    assert image["image_url"]["url"] == f"data:image/png;base64,{as_it_is}"
    assert text == {"type": "text", "text": "What is it?"}
