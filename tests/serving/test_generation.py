from verl_vaopd.serving.generation import chat_message


def test_images_go_to_the_server_as_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(b"as they are")
    message = chat_message([{"image": str(tmp_path / "a.png")}, {"text": "What is it?"}])
    image, text = message["content"]
    assert image["image_url"]["url"] == "data:image/png;base64,YXMgdGhleSBhcmU="
    assert text == {"type": "text", "text": "What is it?"}
