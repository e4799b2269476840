"""Files of JSON lines: one record a line, and a line ends at ``\\n`` alone.

``str.splitlines`` would part a record at U+2028, U+2029 or U+0085, which JSON need not escape.
"""

import json
import os
from pathlib import Path


def read_json_lines(path: str | os.PathLike, torn_end: bool = False) -> list[dict]:
    """The records of a file.

    Args:
        torn_end: whether a last line without an end, as a killed process leaves it, is left out.
    Raises:
        ValueError: a line that is no JSON; names file and line.
    """
    lines = Path(path).read_bytes().split(b"\n")
    last = lines.pop()
    if last and not torn_end:
        lines.append(last)
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is damaged ({error}): mend the line or take it out") from error
    return records
