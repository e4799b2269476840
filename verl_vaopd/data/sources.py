"""Where a data set comes from: the Hugging Face hub, or a folder laid out like it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from verl_vaopd.data.bad_rows import ConversionError, SourceError


@dataclass(frozen=True)
class Source:
    """Files of one repository on this machine. ``revision`` is the hub's commit, None for a local copy."""

    repository: str
    folder: Path
    revision: str | None = None
    requested_revision: str | None = None

    @property
    def local(self) -> bool:
        return self.revision is None

    def find(self, pattern: str) -> list[Path]:
        """The files that match, in order.

        Raises:
            SourceError: there is none.
        """
        found = sorted(self.folder.glob(pattern))
        if not found:
            raise SourceError(f"{self.folder} has no {pattern}: it must be laid out as {self.repository} on the hub")
        return found

    def record(self, files: list[Path]) -> dict:
        """What the manifest keeps of the source: where from, which commit, SHA-256 of each file read."""
        return {
            "revision": self.revision,
            "requested_revision": self.requested_revision,
            "folder": str(self.folder.resolve()) if self.local else None,
            "files": {str(file.relative_to(self.folder)): sha256(file) for file in files},
        }


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def local_copy(repository: str, folder: str | Path) -> Source:
    """A folder laid out as the repository is on the hub.

    Raises:
        SourceError: no such folder.
    """
    if not Path(folder).is_dir():
        raise SourceError(f"{folder} is no folder: give a local copy of {repository}")
    return Source(repository, Path(folder))


def from_hub(repository: str, patterns: list[str], revision: str = "main", commit: str | None = None) -> Source:
    """Download the matching files into the hub's cache, where a download that was cut off goes on.

    Returns:
        The snapshot; its revision is ``commit``, if not given the one that ``revision`` stands for.
    Raises:
        SourceError: no such repository or revision.
        ConversionError: the hub cannot be reached and its cache does not have the files.
    """
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = {"repo_type": "dataset", "revision": commit or revision, "allow_patterns": patterns}
    try:
        folder = snapshot_download(repository, **what)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SourceError(f"{repository} has no revision {revision!r} on the hub, or it is not public") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        try:  # a commit does not change, yet the hub is asked for its list of files
            folder = snapshot_download(repository, **what, local_files_only=True)
        except LocalEntryNotFoundError:
            first = str(error).strip().splitlines()[0]
            raise ConversionError(
                f"cannot download {repository}: {first} The same command goes on where it stopped; without a way to "
                "the hub, give a local copy with --source"
            ) from error
    return Source(repository, Path(folder), Path(folder).name, revision)
