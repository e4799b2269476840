"""A row's images of any shape as encoded bytes: paths, bytes, base64, data URIs, structs, lists, none."""

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from verl_vaopd.data.bad_rows import RowError
from verl_vaopd.data.images import MAX_BYTES, OVERSIZED

MEND = "correct the row or leave it out with --on-error skip"
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{48,}={0,2}\s*")  # shorter ones need a data URI
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_INSIDE = ("bytes", "data", "base64", "path", "url", "image_url")  # of a struct, in this order


def image_bytes(value, field: str, root: Path) -> list[bytes]:
    """The encoded images of a field, in order; not decoded, so not known to be images yet.

    Args:
        value: None, an empty text or list: no image. Text: a path, a ``data:`` URI or base64. Bytes. A struct that
            holds one of these as bytes, data, base64, path, url or image_url, the first that is not null. A list.
        root: the folder that paths start from; none leads out of it.
    Raises:
        RowError: names the image.
    """
    if value is None or value == "" or value == []:
        return []
    if isinstance(value, list):
        return [_one(each, f"{field}[{place}]", root) for place, each in enumerate(value)]
    return [_one(value, field, root)]


def _one(value, field: str, root: Path) -> bytes:
    if isinstance(value, dict):
        name = next((name for name in _INSIDE if value.get(name)), None)
        if name is None:
            problem = f"holds no image (it has {', '.join(map(str, value)) or 'nothing'})"
            raise RowError(field, "missing_image", problem, f"give it one of {', '.join(_INSIDE)}")
        inside = value[name]
        if name in ("bytes", "data", "base64") and isinstance(inside, str) and not inside.startswith("data:"):
            return _from_base64(inside, f"{field}.{name}")
        return _one(inside, f"{field}.{name}", root)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        what = "null" if value is None else "an empty text" if value == "" else type(value).__name__
        raise RowError(field, "missing_image", f"is {what} and no image", MEND)
    if value.startswith("data:"):
        kind, comma, data = value.partition(",")
        if not comma or not kind.endswith(";base64"):
            raise RowError(field, "unreadable_image", f"{kind[:40]!r} is no data URI in base64", MEND)
        return _from_base64(data, field)
    if value.startswith("file://"):
        return _from_file(unquote(value.removeprefix("file://")), field, root)
    if address := _ADDRESS.match(value):
        problem = f"is an address ({address[1]}), and nothing is fetched"
        raise RowError(field, "missing_image", problem, "download it and give its path, or leave the row out")
    if _BASE64.fullmatch(value) and not os.path.exists(os.path.join(root, value[:4096])):
        return _from_base64(value, field)
    return _from_file(value, field, root)


def _from_base64(text: str, field: str) -> bytes:
    text = "".join(text.split()).rstrip("=")
    if len(text) * 3 // 4 > MAX_BYTES:
        problem = f"{len(text) * 3 // 4:,} bytes are over the limit of {MAX_BYTES:,}"
        raise RowError(field, "oversized_image", problem, OVERSIZED)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(field, "unreadable_image", f"is no base64 ({error})", MEND) from error


def _from_file(name: str, field: str, root: Path) -> bytes:
    top = os.path.abspath(root)
    path = os.path.normpath(os.path.join(top, name))
    shown = path if len(path) <= 300 else f"{path[:300]}..."
    if os.path.commonpath([top, path]) != top:
        problem = f"{shown} leads out of {top}"
        raise RowError(field, "outside_root", problem, "give a folder that holds it with --image-root")
    try:
        found = os.stat(path)
        usable = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES  # a pipe would be waited for
        data = Path(path).read_bytes() if usable else b""
    except OSError as error:
        problem = f"{shown} cannot be read ({error.strerror})"
        mend = "correct the path, give the folder that paths start from with --image-root, or leave the row out"
        raise RowError(field, "missing_image", problem, mend) from error
    except ValueError as error:  # a null byte, half a surrogate pair
        raise RowError(field, "missing_image", f"{shown!r} is no path ({error})", MEND) from error
    if not stat.S_ISREG(found.st_mode):
        raise RowError(field, "missing_image", f"{shown} is no file", MEND)
    if found.st_size > MAX_BYTES:
        problem = f"{shown} has {found.st_size:,} bytes, over the limit of {MAX_BYTES:,}"
        raise RowError(field, "oversized_image", problem, OVERSIZED)
    return data
