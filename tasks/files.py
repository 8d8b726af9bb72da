"""A file on this machine that is named by the sha256 of its bytes, and checked against it whenever it is read."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from editors.atomic import write_atomically
from editors.digests import sha256_bytes, sha256_file
from editors.errors import DamagedArtifactError


class DigestFile(BaseModel):
    """Where a file is, and the sha256 of its bytes."""

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: str

    @classmethod
    def named(cls, folder: Path, sha256: str, kind: str) -> DigestFile:
        """The file of a digest in a folder, whether it is there or not."""
        return cls(path=folder / f"{sha256}.{kind}", sha256=sha256)

    @classmethod
    def write(cls, folder: Path, content: bytes, kind: str) -> DigestFile:
        """Write bytes whole or not at all.

        Raises:
            OSError: the disk is full or the folder cannot be written; nothing is left behind.
        """
        file = cls.named(folder, sha256_bytes(content), kind)
        write_atomically(file.path, content)
        return file

    def is_whole(self) -> bool:
        """Whether it is there with the right bytes."""
        return self.path.is_file() and sha256_file(self.path) == self.sha256

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DamagedArtifactError: they are others.
        """
        content = self.path.read_bytes()
        got = sha256_bytes(content)
        if got != self.sha256:
            raise DamagedArtifactError(self.path, expected=f"sha256 {self.sha256}", got=f"sha256 {got}")
        return content
