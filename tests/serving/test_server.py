import json

from verl_vaopd.serving import server
from verl_vaopd.serving.server import server_command


def test_server_command(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 2048}}))
    monkeypatch.setattr(server, "on_cpu", lambda: False)
    command = server_command(tmp_path, 8000, ["--data-parallel-size", "8"])
    assert command[command.index("--max-model-len") + 1] == "2048"
    assert "/" not in command[command.index("--served-model-name") + 1]
    assert command[-2:] == ["--data-parallel-size", "8"]
