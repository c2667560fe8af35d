"""A content-addressed store: a file's place is its sha256, `root/ab/abcdef...`.

A file is written under `incoming/`, synced to disk and renamed, so it is in the store whole or not at
all. It is read-only there, and its digest is compared every time it is handed out.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import sha256_bytes, sha256_file

_SHA = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_REPAIR = "restore it from a backup, or put it back with: vitrine models sync (or models register)"


class ArtifactStore:
    """Files by digest under one folder, which is made on the first write.

    Several processes may write at once: equal content meets in the same place with the same bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_bytes(self, data: bytes) -> str:
        """Store bytes; returns their sha256. Storing them again changes nothing, or repairs the file."""
        sha = sha256_bytes(data)
        if not self._sound(sha):
            temporary = self._temporary()
            with temporary.open("wb") as stream:
                stream.write(data)
                _to_disk(stream)
            self._settle(temporary, sha)
        return sha

    def put_file(self, path: Path) -> str:
        """Store a copy of a file, read in pieces; returns its sha256.

        Raises:
            NotFound: no such file.
        """
        if not path.is_file():
            raise NotFound(f"there is no file {path} to store")
        sha = sha256_file(path)
        if self._sound(sha):
            return sha
        temporary, digest = self._temporary(), hashlib.sha256()
        with path.open("rb") as source, temporary.open("wb") as stream:
            while piece := source.read(_PIECE):
                digest.update(piece)
                stream.write(piece)
            _to_disk(stream)
        # The file may have changed since it was digested: what was copied is what counts.
        return self._settle(temporary, digest.hexdigest())

    def has(self, sha: str) -> bool:
        """Whether a file of that digest lies in the store; its bytes are not read."""
        return self._place(sha).is_file()

    def path(self, sha: str) -> Path:
        """Where the file of that digest lies, after reading it once and comparing.

        Raises:
            NotFound: it is not in the store.
            Tampered: its bytes have another digest.
        """
        place = self._place(sha)
        if not place.is_file():
            raise NotFound(f"artifact {sha[:12]}… is missing in {self.root}; {_REPAIR}")
        found = sha256_file(place)
        if found != sha:
            raise Tampered(
                f"artifact {sha[:12]}… in {self.root} has sha256 {found[:12]}… now and is not loaded; {_REPAIR}"
            )
        return place

    def read(self, sha: str) -> bytes:
        """The verified bytes of that digest; the bytes compared are the bytes returned.

        Raises:
            NotFound: it is not in the store.
            Tampered: its bytes have another digest.
        """
        place = self._place(sha)
        data = place.read_bytes() if place.is_file() else b""
        return data if sha256_bytes(data) == sha else self.path(sha).read_bytes()

    def all(self) -> Iterator[str]:
        """Digests of everything in the store, sorted."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(file.name for file in folder.iterdir() if _SHA.fullmatch(file.name))

    def verify(self) -> list[str]:
        """Read everything; returns one sentence a damaged file, none if all is well."""
        return [sentence for sha in self.all() if (sentence := self.problem(sha))]

    def problem(self, sha: str) -> str:
        """What is wrong with the file of that digest, in a sentence; "" if nothing is."""
        try:
            self.path(sha)
        except (NotFound, Tampered) as error:
            return str(error)
        return ""

    def _place(self, sha: str) -> Path:
        if not _SHA.fullmatch(sha):
            raise BadInput(f"{sha!r} is no sha256: 64 lower-case hexadecimal digits are expected")
        return self.root / sha[:2] / sha

    def _sound(self, sha: str) -> bool:
        place = self._place(sha)
        return place.is_file() and sha256_file(place) == sha

    def _temporary(self) -> Path:
        folder = self.root / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / secrets.token_hex(8)

    def _settle(self, temporary: Path, sha: str) -> str:
        place = self._place(sha)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(place)
        return sha


def _to_disk(stream: BinaryIO) -> None:
    # An event that names a file must never outlive the file, not even through a power cut.
    stream.flush()
    os.fsync(stream.fileno())
