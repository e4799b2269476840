"""A file for what libraries say, so that a person reads what they are told.

verl, Ray and vLLM print, log and warn by a dozen ways, and native code knows none of Python's: so the process's own
streams lead into the file.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

WORDS = "worker.log"
"""In the run's folder: what libraries and workers said."""
STDOUT, STDERR = 1, 2


@contextmanager
def aside(path: str, *streams: int) -> Iterator[TextIO]:
    """Add to the file ``path`` what this process, and what it starts, writes to ``streams`` within the block.

    Args:
        streams: of ``STDOUT`` and ``STDERR``; default: both.
    Yields:
        What stdout was before: for the lines that a person is to read.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = {stream: os.dup(stream) for stream in (STDOUT, STDERR)}
    with open(path, "ab", buffering=0) as file:
        for stream in streams or (STDOUT, STDERR):
            os.dup2(file.fileno(), stream)
    try:
        with open(os.dup(before[STDOUT]), "w", buffering=1) as terminal:
            yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, kept in before.items():
            os.dup2(kept, stream)
            os.close(kept)


@contextmanager
def shown_if_it_fails(path: str, lines: int = 40) -> Iterator[None]:
    """Show the end of the file ``path`` if the block fails; not of a ValueError, which says itself what is wrong."""
    try:
        yield
    except ValueError:
        raise
    except Exception:
        with open(path, errors="replace") as file:
            print("".join(file.readlines()[-lines:]), end="", file=sys.stderr)
        raise


@contextmanager
def held_back() -> Iterator[list[str]]:
    """Hold back what is written to stderr within the block; where it fails, :func:`shown_if_it_fails` shows it.

    Yields:
        A list that holds the text when the block has ended.
    """
    held: list[str] = []
    with tempfile.NamedTemporaryFile() as file, shown_if_it_fails(file.name):
        with aside(file.name, STDERR):
            yield held
        held.append(file.read().decode(errors="replace"))
