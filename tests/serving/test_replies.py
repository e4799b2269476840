"""Status 200 without an answer: what gateways send when the model behind them fails."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.generation import Decoding, Sampler
from verl_vaopd.serving.journal import Journal
from verl_vaopd.serving.judge import JudgeRelay

GOOD = {"choices": [{"message": {"role": "assistant", "content": " 7 "}, "finish_reason": "stop"}]}
NO_ANSWERS = {
    "choices: null": {"choices": None, "error": {"message": "upstream overloaded"}},
    "no choice": {"choices": []},
    "no message": {"choices": [{"message": None, "finish_reason": "error"}]},
    "content that is no text": {"choices": [{"message": {"role": "assistant", "content": [{"type": "image"}]}}]},
    "a number": 5,
    "a page": "<html>502 Bad Gateway</html>",
    "cut in the middle": '{"choices": [{"mess',
}


@contextmanager
def stub(reply):
    """A server whose every answer is ``reply``: an object as JSON, a text as it is. Its address."""
    body = (reply if isinstance(reply, str) else json.dumps(reply)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            kind = "text/html" if body.startswith(b"<") else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_judge_that_says_200_and_nothing_else_is_refused_and_counted(reply, tmp_path):
    with stub(reply) as url, JudgeRelay(url, "gpt", "none", Journal(tmp_path / "judge.jsonl")) as relay:
        with pytest.raises(EvaluationError, match="does not answer as 'gpt'"):
            relay.check()
        assert relay.answer({"messages": [{"role": "user", "content": "Is it 7?"}]}) is None
        assert len(relay.failures) == 1 and not relay.cache.records


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_students_server_that_says_so_has_failed_that_question(reply, tmp_path):
    journal = Journal(tmp_path / "answers.jsonl")
    with stub(reply) as url:
        failures = Sampler(url, "student", Decoding(), workers=2).sample(
            [{"index": "q1", "content": [{"text": "What is it?"}]}], [journal], "answers"
        )
    assert list(failures[0]) == ["q1"] and failures[0]["q1"]
    assert not journal.records


def test_an_answer_needs_neither_usage_nor_more(tmp_path):
    journal = Journal(tmp_path / "answers.jsonl")
    with stub(GOOD) as url:
        failures = Sampler(url, "student", Decoding(), workers=1).sample(
            [{"index": "q1", "content": [{"text": "What is it?"}]}], [journal], "answers"
        )
    assert failures == [{}]
    assert journal.records["q1"]["prediction"] == "7" and journal.records["q1"]["tokens"] is None
