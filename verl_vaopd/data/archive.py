"""Images read from a zip archive in memory: nothing is extracted."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from verl_vaopd.data.bad_rows import ConversionError, RowError
from verl_vaopd.data.images import MAX_BYTES, OVERSIZED, UNREADABLE

OUTSIDE = "give a path inside the archive in the source, or leave the row out with --on-error skip"
MISSING = "add the image to the archive or correct the path, or leave the row out with --on-error skip"


class ImageArchive:
    """The members of a zip archive by their paths. A context manager.

    Raises:
        ConversionError: not a zip archive, or a damaged directory.
    """

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ConversionError(f"{path} is not a whole zip archive ({error}): fetch it again") from error

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._zip.close()

    def read(self, name: str, field: str) -> bytes:
        """Bytes of the member ``name``.

        Raises:
            RowError: a path outside the archive's folder, a link, no such member, one that declares more than
                MAX_BYTES, or one that cannot be unpacked.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in name.replace("\\", "/").split("/"):
            raise RowError(field, "outside_archive", f"{name!r} points outside the archive", OUTSIDE)
        try:
            member = self._zip.getinfo(str(path))
        except KeyError:
            raise RowError(field, "missing_image", f"{name!r} is not in the archive", MISSING) from None
        if stat.S_ISLNK(member.external_attr >> 16):
            raise RowError(field, "outside_archive", f"{name!r} is a symbolic link", OUTSIDE)
        if member.file_size > MAX_BYTES:
            problem = f"{name!r} unpacks to {member.file_size:,} bytes, over the limit of {MAX_BYTES:,}"
            raise RowError(field, "oversized_image", problem, OVERSIZED)
        try:
            with self._zip.open(member) as file:
                return file.read(MAX_BYTES)  # zipfile stops at the declared size and checks the CRC
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise RowError(field, "unreadable_image", f"{name!r} cannot be unpacked ({error})", UNREADABLE) from error
