"""What a server of chat completions says with status 200 need not be an answer."""

from typing import NamedTuple


class NoAnswer(Exception):
    """Status 200 and no answer; the text says what came instead."""


class Answer(NamedTuple):
    """text: stripped; finish_reason and tokens: None where the server does not say."""

    text: str
    finish_reason: str | None
    tokens: int | None


def answer_of(reply) -> Answer:
    """The first choice of a reply of ``openai``'s client, which checks none of its fields.

    Raises:
        NoAnswer: no object (a gateway's page), an ``error`` beside ``choices: null``, no choice, no message, or content
            that is no text.
    """
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise NoAnswer(f"status 200 without an answer: {str(getattr(reply, 'error', None) or reply)[:200]}")
    choice, usage = choices[0], getattr(reply, "usage", None)
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    if message is None or not isinstance(content, str | None):
        raise NoAnswer(f"status 200 without a text: {str(message)[:200]}")
    tokens = getattr(usage, "completion_tokens", None)
    return Answer((content or "").strip(), choice.finish_reason, tokens)
