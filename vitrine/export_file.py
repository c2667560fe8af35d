"""A version as one file: a tar without compression, whose first member says what follows and whose last seals it.

vitrine-export.json   format, model, version, digest, what the registry knew, and (sha256, size) of each file
files/SHA256          the manifest and everything it names; with the history the per-query results too
seal                  sha256 of vitrine-export.json

The same version is the same file, byte for byte. Members are named by their digests and nothing is unpacked by a name
that the file chose, so it can write nowhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vitrine.artifacts import storing
from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import sha256_bytes

FORMAT = 1
HEADER, SEAL, FILES = "vitrine-export.json", "seal", "files/"

_LARGEST_HEADER = 64 << 20
_PIECE = 1 << 20


@dataclass(frozen=True)
class Header:
    """What an export says of itself.

    Attributes:
        model, version, digest: which version it is in the registry that it comes from.
        registered: `at`, `actor`, `why`, `lineage` and `parity` of its registration there.
        files: sha256 -> bytes of every file in it, the manifest (`digest`) among them.
        evaluations: the newest measurement of each kind, if the history was asked for.
        history: everything that happened to it there, as sentences, if it was asked for.
    """

    model: str
    version: int
    digest: str
    registered: Mapping[str, Any]
    files: Mapping[str, int]
    evaluations: tuple[Mapping[str, Any], ...] = ()
    history: tuple[str, ...] = field(default=())

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return json.dumps({"format": FORMAT, **vars(self)}, sort_keys=True, ensure_ascii=False).encode()


def write_export(path: Path, header: Header, files: Mapping[str, Path]) -> None:
    """Write the file whole or not at all.

    Raises:
        BadInput: something else lies there.
        Unavailable: the disk is full or not writable.
    """
    if path.exists() and not is_export(path):
        raise BadInput(f"{path} exists and is no export of a version; name another file or remove it")
    temporary, raw = path.with_name(f".{path.name}.part"), header.to_json()
    with storing(str(path.parent)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                _add(tar, HEADER, len(raw), io.BytesIO(raw))
                for sha, size in sorted(header.files.items()):
                    with files[sha].open("rb") as stream:
                        _add(tar, FILES + sha, size, stream)
                seal = sha256_bytes(raw).encode()
                _add(tar, SEAL, len(seal), io.BytesIO(seal))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def is_export(path: Path) -> bool:
    """Whether a file begins as an export does."""
    with path.open("rb") as stream:
        return stream.read(len(HEADER)) == HEADER.encode()


def read_export(path: Path, folder: Path) -> tuple[Header, dict[str, Path]]:
    """Unpack an export into `folder`; every byte was compared with a digest.

    Returns:
        What it says of itself, and sha256 -> place of each of its files.

    Raises:
        NotFound: no such file.
        BadInput: no export, or one of a newer release.
        Tampered: it is not whole or was altered.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path} to import")
    if not is_export(path):
        raise BadInput(f"{path} is no export of a version; make one with: vitrine models export REF FILE")
    with _whole(path), path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        raw = _text(tar, HEADER, _LARGEST_HEADER)
        header = _header(path, raw)
        places = {sha: _unpack(tar, sha, size, folder) for sha, size in sorted(header.files.items())}
        if _text(tar, SEAL, 64) != sha256_bytes(raw).encode():
            raise _Broken("its seal is not that of its first part")
        if tar.next() is not None or stream.read().strip(b"\0"):
            raise _Broken("something follows its end")
    return header, places


class _Broken(Exception):
    pass


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (_Broken, tarfile.TarError, EOFError) as error:
        raise Tampered(
            f"{path} is not whole or was altered: {error}; nothing was imported, copy it again or export it anew"
        ) from error


def _header(path: Path, raw: bytes) -> Header:
    try:
        value = json.loads(raw)
        found = value.pop("format")
        if found == FORMAT:
            header = Header(**value)
            sizes = {str(sha): int(size) for sha, size in header.files.items()}
            if header.digest not in sizes:
                raise _Broken("it does not hold its own manifest")
            return header
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _Broken(f"its first part is no description of a version ({type(error).__name__})") from error
    raise BadInput(
        f"{path} has format {found!r}, this release reads {FORMAT}; it was written by another release: use that"
    )


def _add(tar: tarfile.TarFile, name: str, size: int, stream: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, stream)


def _member(tar: tarfile.TarFile, name: str) -> tuple[tarfile.TarInfo, IO[bytes]]:
    member = tar.next()
    if member is None or member.name != name or member.type != tarfile.REGTYPE:
        raise _Broken(f"where {name[:20]} should be there is {f'{member.name[:40]!r}' if member else 'nothing'}")
    stream = tar.extractfile(member)
    assert stream is not None
    return member, stream


def _text(tar: tarfile.TarFile, name: str, largest: int) -> bytes:
    member, stream = _member(tar, name)
    if member.size > largest:
        raise _Broken(f"{name} has {member.size} bytes")
    return stream.read()


def _unpack(tar: tarfile.TarFile, sha: str, size: int, folder: Path) -> Path:
    member, stream = _member(tar, FILES + sha)
    if member.size != size:
        raise _Broken(f"a file of {size} bytes has {member.size}")
    digest, place = hashlib.sha256(), folder / f"{len(list(folder.iterdir()))}"
    with storing(str(folder)), place.open("wb") as target:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    if digest.hexdigest() != sha:
        raise _Broken(f"the file {sha[:12]}… has other bytes")
    return place
