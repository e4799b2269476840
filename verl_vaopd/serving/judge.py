"""A relay between the toolkit and the judge: it caches answers, counts failures and alone holds the key.

The toolkit logs the key it is given, guesses a random option when a judge fails, and does not say how often. So it is
given this relay's address on loopback, a judge named "judge", and no key.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

from verl_vaopd.serving import EvaluationError
from verl_vaopd.serving.journal import Journal
from verl_vaopd.serving.replies import NoAnswer, answer_of

RETRIES = 5
DEAD_AFTER = 3
"""So many requests in a row without a connection, each tried ``1 + RETRIES`` times, and the judge is given up."""


class JudgeRelay:
    """An OpenAI-compatible server on loopback in front of ``model`` at ``base_url``; a context manager.

    An answer is kept under the judge's model and the whole request: prompt (question and prediction), temperature.
    ``failures`` counts the requests of the current benchmark that got no answer; ``on_death`` is called once the judge
    cannot be reached any more, and ``dead`` then says so.
    """

    def __init__(self, base_url: str, model: str, api_key: str, cache: Journal):
        self.base_url, self.model, self.cache = base_url, model, cache
        self.failures: dict[str, str] = {}
        self.dead: str | None = None
        self.on_death: Callable[[], None] = lambda: None
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=RETRIES, timeout=600)
        self._unreachable = 0
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/chat/completions"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    def check(self) -> None:
        """Ask for one token.

        Raises:
            EvaluationError: no answer; the text says why.
        """
        try:
            reply = self._client.with_options(max_retries=1).chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": "hello"}], max_tokens=1, temperature=0
            )
            answer_of(reply)
        except openai.APIConnectionError:
            raise EvaluationError(
                f"no judge answers at {self.base_url}: start it, or correct --judge-base-url"
            ) from None
        except openai.APIStatusError as error:
            raise EvaluationError(
                f"the judge at {self.base_url} refuses model {self.model!r}: {error.message}; correct --judge, or set "
                "VAOPD_JUDGE_API_KEY"
            ) from None
        except (NoAnswer, json.JSONDecodeError) as error:
            raise EvaluationError(
                f"the judge at {self.base_url} does not answer as {self.model!r} ({error}): correct --judge or "
                "--judge-base-url"
            ) from None

    def answer(self, request: dict) -> str | None:
        """The judge's text, from the cache or asked for now; None if there is none."""
        request = {**request, "model": self.model}
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # passes often give the same answer: asked for once
            if key not in self.cache.records:
                self._ask(key, request)
            record = self.cache.records.get(key)
        return record["answer"] if record else None

    def _ask(self, key: str, request: dict) -> None:
        """To the cache, or to the failures."""
        unreachable = False
        try:
            reply = self._client.chat.completions.create(**request)
            text = answer_of(reply).text
            failure = None if text else "an empty answer"
        except (NoAnswer, json.JSONDecodeError) as error:  # status 200 all the same
            failure = str(error)
        except openai.APIError as error:
            failure, unreachable = str(error), isinstance(error, openai.APIConnectionError)
        with self._lock:
            self._unreachable = self._unreachable + 1 if unreachable else 0
            if failure is None:
                self.failures.pop(key, None)
                try:
                    self.cache.append({"key": key, "model": self.model, "answer": text})
                except OSError as error:
                    self._die(f"{error.strerror}: the judge's answers cannot be kept")
                return
            self.failures[key] = failure
            if self._unreachable >= DEAD_AFTER:
                self._die(f"the judge at {self.base_url} stopped answering ({failure})")

    def _die(self, reason: str) -> None:
        if self.dead is None:
            self.dead = f"{reason}: answers and verdicts so far are kept; mend it and run the same command again"
            self.on_death()

    def _handler(self):
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = relay.answer(request)
                message = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                body = json.dumps(message if text is not None else {"error": "no answer"}).encode()
                self.send_response(200 if text is not None else 502)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """The journal is the log."""

        return Handler
