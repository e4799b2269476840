"""Images read from a zip archive in memory: nothing is extracted."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from verl_vaopd.data.bad_rows import ConversionError, RowError
from verl_vaopd.data.images import MAX_BYTES, OVERSIZED, UNREADABLE

OUTSIDE = "give a path inside the archive in the source, or leave the row out with --on-error skip"
MAX_TOTAL = 64 * 2**30  # bytes unpacked from one archive; ViRL39K's is a few GB
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
        self._path, self._unpacked = path, 0

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._zip.close()

    def read(self, name: str, field: str) -> bytes:
        """Bytes of the member ``name``.

        Raises:
            RowError: a path outside the archive's folder, a link or device, no such member, one that declares more than
                MAX_BYTES, or one that cannot be unpacked.
            ConversionError: more than MAX_TOTAL bytes were unpacked.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in name.replace("\\", "/").split("/"):
            raise RowError(field, "outside_archive", f"{name!r} points outside the archive", OUTSIDE)
        try:
            member = self._zip.getinfo(str(path))
        except KeyError:
            raise RowError(field, "missing_image", f"{name!r} is not in the archive", MISSING) from None
        if (kind := stat.S_IFMT(member.external_attr >> 16)) not in (0, stat.S_IFREG):  # 0: made without Unix modes
            what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
            raise RowError(field, "outside_archive", f"{name!r} is {what}", OUTSIDE)
        if member.file_size > MAX_BYTES:
            problem = f"{name!r} unpacks to {member.file_size:,} bytes, over the limit of {MAX_BYTES:,}"
            raise RowError(field, "oversized_image", problem, OVERSIZED)
        self._unpacked += member.file_size
        if self._unpacked > MAX_TOTAL:
            raise ConversionError(f"{self._path} unpacks to more than {MAX_TOTAL:,} bytes: fetch it again")
        try:
            with self._zip.open(member) as file:
                return file.read(MAX_BYTES)  # zipfile stops at the declared size and checks the CRC
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise RowError(field, "unreadable_image", f"{name!r} cannot be unpacked ({error})", UNREADABLE) from error
