"""A content-addressed store: a file's place is its sha256, `root/ab/abcdef...`.

A file is written under `incoming/`, synced to disk and renamed, so it is in the store whole or not at
all. It is read-only there, and its digest is compared every time it is handed out. Files elsewhere
than on this machine: `vitrine.artifacts_remote`.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vitrine.errors import BadInput, NotFound, Tampered, Unavailable
from vitrine.files import sha256_bytes, sha256_file

REPAIR = "restore it from a backup, or put it back with: vitrine models sync (or models register)"
INCOMING = "incoming"

_SHA = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A file as a listing shows it: `modified` is when it was last put, in seconds since 1970."""

    name: str
    size: int
    modified: float


class ArtifactStore:
    """Files by digest under one folder, which is made on the first write.

    Several processes may write at once: equal content meets in the same place with the same bytes.

    Args:
        root: the folder.
        repair: what the messages advise for a file that is missing or damaged.
    """

    def __init__(self, root: Path, *, repair: str = REPAIR) -> None:
        self.root = root
        self.repair = repair

    @property
    def where(self) -> str:
        """The place, for messages."""
        return str(self.root)

    def put_bytes(self, data: bytes) -> str:
        """Store bytes; returns their sha256. Storing them again changes nothing, or repairs the file.

        Raises:
            Unavailable: the disk is full or not writable; nothing was stored.
        """
        sha = sha256_bytes(data)
        return sha if self._fresh(sha, len(data)) else self._copy(io.BytesIO(data))

    def put_file(self, path: Path) -> str:
        """Store a copy of a file, read in pieces; returns its sha256.

        Raises:
            NotFound: no such file.
            Unavailable: the disk is full or not writable; nothing was stored.
        """
        if not path.is_file():
            raise NotFound(f"there is no file {path} to store")
        sha = sha256_file(path)
        if self._fresh(sha, path.stat().st_size):
            return sha
        with path.open("rb") as source:
            # The file may have changed since it was digested: what is copied is what counts.
            return self._copy(source)

    def has(self, sha: str) -> bool:
        """Whether a file of that digest lies in the store; its bytes are not read."""
        return self._place(sha).is_file()

    def hold(self, sha: str) -> bool:
        """As `has`; a file that is there counts as put just now, so that a clean-up lets it be."""
        try:
            os.utime(self._place(sha))
        except FileNotFoundError:
            return False
        return True

    def path(self, sha: str) -> Path:
        """Where the file of that digest lies, after reading it once and comparing.

        Raises:
            NotFound: it is not in the store.
            Tampered: its bytes have another digest.
        """
        place = self._place(sha)
        if not place.is_file():
            raise self._missing(sha)
        found = sha256_file(place)
        if found != sha:
            raise self._altered(sha, found)
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
        return (stored.name for stored in self.listing())

    def listing(self) -> Iterator[Stored]:
        """Everything in the store, by digest."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            yield from (stored for stored in _files(folder) if _SHA.fullmatch(stored.name))

    def leftovers(self) -> Iterator[Stored]:
        """What interrupted writes left under `incoming/`; running ones are among them."""
        yield from _files(self.root / INCOMING)

    def remove(self, sha: str, *, unless_put_after: float = math.inf) -> bool:
        """Take a file out of the store; returns whether it is gone. One that was put again since then stays."""
        place, aside = self._place(sha), self.root / INCOMING / secrets.token_hex(8)
        aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.rename(aside)  # from now on, who stores it does so anew
        except FileNotFoundError:
            return True
        if aside.stat().st_mtime > unless_put_after:
            aside.replace(place)
            return False
        aside.unlink()
        return True

    def remove_leftover(self, name: str) -> None:
        """Take a file out of `incoming/`; one that is not there is no error."""
        (self.root / INCOMING / name).unlink(missing_ok=True)

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

    def _missing(self, sha: str) -> NotFound:
        return NotFound(f"artifact {sha[:12]}… is missing in {self.where}; {self.repair}")

    def _altered(self, sha: str, found: str) -> Tampered:
        return Tampered(
            f"artifact {sha[:12]}… in {self.where} has sha256 {found[:12]}… now and is not loaded; {self.repair}"
        )

    def _place(self, sha: str) -> Path:
        return self.root / check_sha(sha)[:2] / sha

    def _fresh(self, sha: str, size: int) -> bool:
        """Whether a sound file is there; it counts as put just now, so that a clean-up lets it be."""
        place = self._place(sha)
        if not place.is_file() or place.stat().st_size != size or sha256_file(place) != sha:
            return False
        return self.hold(sha)  # a clean-up may have been faster

    def _copy(self, source: BinaryIO) -> str:
        temporary, digest = self.root / INCOMING / secrets.token_hex(8), hashlib.sha256()
        with storing(str(self.root)):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as stream:
                    while piece := source.read(_PIECE):
                        digest.update(piece)
                        stream.write(piece)
                    _to_disk(stream)
                self._settle(temporary, digest.hexdigest())
            finally:
                temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def _settle(self, temporary: Path, sha: str) -> None:
        place = self._place(sha)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(place)
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name, too, must be on disk before an event tells of it
        finally:
            os.close(folder)


def check_sha(sha: str) -> str:
    """The digest itself.

    Raises:
        BadInput: it is none, so it is no name of a file either.
    """
    if not _SHA.fullmatch(sha):
        raise BadInput(f"{sha!r} is no sha256: 64 lower-case hexadecimal digits are expected")
    return sha


@contextmanager
def storing(where: str) -> Iterator[None]:
    """Say in a sentence that a place takes no more files.

    Raises:
        Unavailable: the disk is full, over quota or not writable.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"nothing was stored: {where} cannot be written: {error.strerror or error}; "
            "make room or make it writable, then run the command again"
        ) from error


def _files(folder: Path) -> Iterator[Stored]:
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            facts = file.stat()
        except FileNotFoundError:  # somebody's write ended, or a clean-up was faster
            continue
        yield Stored(file.name, facts.st_size, facts.st_mtime)


def _to_disk(stream: BinaryIO) -> None:
    # An event that names a file must never outlive the file, not even through a power cut.
    stream.flush()
    os.fsync(stream.fileno())
