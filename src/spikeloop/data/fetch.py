"""Where data files come from: the folder SPIKELOOP_DATA, the cache, or their official sources."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikeloop._files import user_cache
from spikeloop.errors import DataError

VARIABLE = "SPIKELOOP_DATA"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set: its folder and name, where it is published, and what it must contain.

    sources: addresses of folders, tried in this order; sha256 of the file, in hexadecimal digits.
    """

    folder: str
    name: str
    sha256: str
    sources: Sequence[str]

    def locate(self) -> Path:
        """Path of the verified file: SPIKELOOP_DATA/folder/name if it is there, else downloaded to the cache.

        Raises DataError if the checksum is wrong, nothing can be downloaded, or pooch (extra `cli`) is missing.
        """
        return self.at_hand() or self._download()

    def at_hand(self) -> Path | None:
        """Path of the verified file if it is in SPIKELOOP_DATA/folder. Raises DataError if the checksum is wrong."""
        root = os.environ.get(VARIABLE)
        path = None if not root else Path(root) / self.folder / self.name
        if path is None or not path.exists():
            return None
        verify(path, self.sha256)
        return path

    def _download(self) -> Path:
        by_hand = f"or put {self.name} into the folder {self.folder} of the folder that {VARIABLE} names"
        cache = user_cache()
        if cache is None:
            todo = f'Install the download tool with pip install "spikeloop[cli]", {by_hand}'
            raise DataError("not on this machine, and pooch is not installed", where=self.name, todo=todo)
        import pooch

        problems: list[str] = []
        for source in self.sources:
            try:
                found = pooch.retrieve(source + self.name, f"sha256:{self.sha256}", self.name, cache / self.folder)
                return Path(found)
            except (OSError, ValueError) as error:  # no network; wrong checksum
                problems.append(f"{source}: {error}")
        raise DataError(
            f"not on this machine and not to be downloaded ({'; '.join(problems)})",
            where=self.name,
            expected=f"sha256 {self.sha256}",
            todo=f"Try again with a network, {by_hand}",
        )


def verify(path: Path, sha256: str) -> None:
    """Raises DataError if the contents of the file are not those expected."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataError(
            f"sha256 {found}", where=str(path), expected=sha256, todo="The file is damaged or another one: replace it"
        )
