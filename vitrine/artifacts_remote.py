"""Artifacts at any address that fsspec knows (`s3://bucket/folder`, ...), so that a team shares them.

A file is uploaded under `incoming/`, its size compared, and moved to its place `ab/abcdef...`. Reading
goes through a verified copy on this machine: each byte handed out was compared with its digest here.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from vitrine.artifacts import INCOMING, REPAIR, ArtifactStore, Stored, check_sha
from vitrine.errors import BadInput, Tampered, Unavailable, VitrineError
from vitrine.home import Home

REFRESH_S = 12 * 3600.0
"""A file that is put again is marked as new once it is that old; a clean-up spares what is younger than twice that."""

_PIECE = 1 << 20


class RemoteArtifacts(ArtifactStore):
    """A store behind an fsspec URL, with copies of what was read or written under `cache`.

    Raises:
        BadInput: no URL, or of a kind that fsspec does not know.
        Unavailable: the package for that kind of URL is not installed.
    """

    def __init__(self, url: str, cache: Path, *, repair: str = REPAIR) -> None:
        super().__init__(cache, repair=repair)
        self._url = url
        self._files, self._base = _filesystem(url)

    @property
    def where(self) -> str:
        """The address without a password or a key, for messages."""
        return masked(self._url)

    @property
    def copies(self) -> ArtifactStore:
        """What lies on this machine; all of it can be fetched again."""
        return ArtifactStore(self.root, repair=self.repair)

    def has(self, sha: str) -> bool:
        """Whether a file of that digest lies there; its bytes are not read."""
        with self._reached():
            return bool(self._files.isfile(self._remote(sha)))

    def hold(self, sha: str) -> bool:
        """As `has`; a file that is there counts as put lately, so that a clean-up lets it be."""
        place = self._remote(sha)
        with self._reached():
            if not self._files.isfile(place):
                return False
            if time.time() - self._modified(place) > REFRESH_S:
                temporary = f"{self._base}/{INCOMING}/{secrets.token_hex(8)}"
                self._files.makedirs(f"{self._base}/{INCOMING}", exist_ok=True)
                self._files.cp_file(place, temporary)  # on the other side, so that a clean-up lets it be
                self._files.mv(temporary, place)
        return True

    def path(self, sha: str) -> Path:
        """A copy of that file on this machine, compared with its digest just now.

        Raises:
            NotFound: it is not in the store.
            Tampered: its bytes have another digest.
            Unavailable: the store cannot be reached.
        """
        if self.copies.problem(sha):
            self._fetch(sha)
        return self.copies.path(sha)

    def read(self, sha: str) -> bytes:
        """The verified bytes of that digest.

        Raises:
            NotFound, Tampered, Unavailable: as `path`.
        """
        self.path(sha)
        return self.copies.read(sha)

    def listing(self) -> Iterator[Stored]:
        """Everything in the store, by digest."""
        with self._reached():
            found = [place for place in self._entries("") if place["type"] == "directory"]
            folders = sorted(str(place["name"]).rstrip("/").rsplit("/", 1)[-1] for place in found)
        for folder in folders:
            if len(folder) == 2:
                yield from self._stored(folder)

    def leftovers(self) -> Iterator[Stored]:
        """What interrupted uploads left; running ones are among them."""
        yield from self._stored(INCOMING)

    def remove(self, sha: str, *, unless_put_after: float = math.inf) -> bool:
        """Take a file out of the store and drop its copy; returns whether it is gone. One put again since then stays."""
        place = self._remote(sha)
        with self._reached():
            if self._files.isfile(place) and self._modified(place) > unless_put_after:
                return False
        self._unlink(place)
        return self.copies.remove(sha)

    def remove_leftover(self, name: str) -> None:
        """Take a file out of `incoming/`; one that is not there is no error."""
        self._unlink(f"{self._base}/{INCOMING}/{name}")

    def problem(self, sha: str) -> str:
        """What is wrong with the file there, not with its copy here; "" if nothing is."""
        with self._reached():
            found = self._digest(sha)
        if found == sha:
            return ""
        return str(self._altered(sha, found) if found else self._missing(sha))

    def _fresh(self, sha: str, size: int) -> bool:
        # Its size stands for its soundness: reading it again would cost as much as storing it.
        place = self._remote(sha)
        with self._reached():
            if not self._files.isfile(place) or self._files.size(place) != size:
                return False
        return self.hold(sha)

    def _altered(self, sha: str, found: str) -> Tampered:
        return Tampered(
            f"artifact {sha[:12]}… at {self.where} has sha256 {found[:12]}… now and is not loaded; restore it from a "
            "backup, or remove it there and put it back with: vitrine models sync (or models register)"
        )

    def _copy(self, source: BinaryIO) -> str:
        sha = super()._copy(source)
        copy, temporary = self.copies.path(sha), f"{self._base}/{INCOMING}/{secrets.token_hex(8)}"
        with self._reached():
            self._files.makedirs(f"{self._base}/{INCOMING}", exist_ok=True)
            self._files.makedirs(f"{self._base}/{sha[:2]}", exist_ok=True)
            self._files.put_file(str(copy), temporary)
            self._settled(temporary, copy.stat().st_size)
            self._files.mv(temporary, self._remote(sha))
        return sha

    def _settled(self, temporary: str, size: int) -> None:
        found = self._files.size(temporary)
        if found != size:
            self._unlink(temporary)
            raise Unavailable(
                f"nothing was stored: {found} of {size} bytes arrived at {self.where}; run the command again"
            )

    def _fetch(self, sha: str) -> None:
        with self._reached():
            if not self._files.isfile(self._remote(sha)):
                raise self._missing(sha)
            with self._files.open(self._remote(sha), "rb") as source:
                found = self.copies._copy(source)  # noqa: SLF001 - stored under the digest that it turns out to have
        if found != sha:
            self.copies.remove(found)
            raise self._altered(sha, found)

    def _digest(self, sha: str) -> str:
        """The digest of what lies in the place of `sha`, read to its end; "" if nothing does."""
        if not self._files.isfile(self._remote(sha)):
            return ""
        digest = hashlib.sha256()
        with self._files.open(self._remote(sha), "rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def _remote(self, sha: str) -> str:
        return f"{self._base}/{check_sha(sha)[:2]}/{sha}"

    def _stored(self, folder: str) -> Iterator[Stored]:
        with self._reached():
            entries = [entry for entry in self._entries(folder) if entry["type"] == "file"]
            found = [Stored(_name(entry), int(entry["size"]), self._modified(str(entry["name"]))) for entry in entries]
        yield from sorted(found, key=lambda stored: stored.name)

    def _modified(self, place: str) -> float:
        when: datetime = self._files.modified(place)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        place = f"{self._base}/{folder}".rstrip("/")
        return list(self._files.ls(place, detail=True)) if self._files.isdir(place) else []

    def _unlink(self, place: str) -> None:
        with self._reached():
            if self._files.isfile(place):
                self._files.rm_file(place)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except VitrineError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            raise Unavailable(
                f"the artifacts at {self.where} cannot be used: {type(error).__name__}: {error}; check the address in "
                "VITRINE_ARTIFACTS_URL, its credentials and the network, then run the command again"
            ) from error


def open_artifacts(home: Home) -> ArtifactStore:
    """The artifacts of an installation: `VITRINE_ARTIFACTS_URL`, by default a folder under the home.

    Raises:
        BadInput, Unavailable: as `RemoteArtifacts`.
    """
    if not home.artifacts_url:
        return ArtifactStore(home.artifacts, repair=REPAIR + _elsewhere(home))
    parts = urlsplit(home.artifacts_url)
    if parts.scheme in {"", "file"} and not parts.netloc:
        return ArtifactStore(Path(parts.path))
    return RemoteArtifacts(home.artifacts_url, home.root / "artifact-copies")


def masked(url: str) -> str:
    """An address without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        files, base = fsspec.core.url_to_fs(url, use_listings_cache=False)  # others write there too
    except ImportError as error:
        raise Unavailable(f"{masked(url)} needs another package: {error}") from error
    except ValueError as error:
        raise BadInput(
            f"{masked(url)!r} in VITRINE_ARTIFACTS_URL is no address of files: {error}; "
            "examples: file:///srv/vitrine/artifacts, s3://bucket/vitrine"
        ) from error
    return files, str(base).rstrip("/")


def _elsewhere(home: Home) -> str:
    """What to add where the events are shared and the files are not."""
    if home.registry_url.startswith("sqlite"):
        return ""
    return (
        ". The registry is shared, but files are kept on this machine alone: set VITRINE_ARTIFACTS_URL to a place that "
        "everybody reaches"
    )


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rsplit("/", 1)[-1]
