"""Photos of files and folders through a server into one array, which a repeated call finishes after a break.

OUT.npy                float32 (files, D), one row a file; zero where a photo could not be embedded
OUT.txt                the files, one a line, in the order of the rows
.OUT.npy.part/         while it is unfinished: rows.f32, as far as they are there, and state.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrine.errors import BadInput, Conflict, NotFound
from vitrine.failpoints import point, reach
from vitrine.files import read_json, sha256_bytes, write_atomic, write_json
from vitrine.images import MAX_BYTES
from vitrine.progress import Track, quiet

if TYPE_CHECKING:
    from vitrine.client import StreamChunk, VitrineClient
    from vitrine.client.types import Version

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
ROWS_WRITTEN = point("embed.rows", "more rows are on disk than the state says")


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and in their place the photos of folders and of what lies below them, sorted.

    Raises:
        NotFound: a path that is not there.
        BadInput: a folder without a photo.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise NotFound(f"there is no photo at {path}")
        inside = _below(path) if path.is_dir() else [path]
        if not inside:
            raise BadInput(f"{path} holds no photo ({', '.join(SUFFIXES)})", field="FILES")
        found += inside
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


@dataclass
class State:
    """How far an unfinished array is.

    Attributes:
        files: digest of the files' names, sizes and times.
        version: digest of the version's manifest.
        failed: row -> why that photo has no vector.
    """

    files: str
    version: str = ""
    name: str = ""
    dim: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        resumed: rows that an earlier call had made.
        failed: file -> why it has no vector.
    """

    version: str
    dim: int
    count: int
    resumed: int
    failed: dict[str, str]


def embed_to(client: VitrineClient, files: Sequence[Path], out: Path, track: Track = quiet) -> Embedded:
    """Embed photos into `out`, all by one version; go on where an unfinished call with the same files stopped.

    Rows of another version than the one that is live now are made anew.

    Raises:
        Conflict: another version went live meanwhile; the next call begins anew.
        VitrineError: the server's own error; what was embedded is kept.
    """
    part = out.with_name(f".{out.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    state = _state(part, files, client.info().version)
    resumed = state.done
    rest = files[resumed:]
    photos = Photos(rest)
    chunks = client.embed_stream(photos)
    for _ in track(_stored(chunks, photos, part, state), "embedding", len(rest)):
        pass
    _finish(part, out, state, files)
    failed = {str(files[int(row)]): why for row, why in state.failed.items()}
    return Embedded(state.name, state.dim, len(files), resumed, failed)


class Photos:
    """The bytes of files, read when they are asked for; one that cannot be read is empty, and `unread` says why."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.unread: dict[int, str] = {}

    def __iter__(self) -> Iterator[bytes]:
        for place, path in enumerate(self._files):
            yield self._read(place, path)

    def _read(self, place: int, path: Path) -> bytes:
        try:
            size = path.stat().st_size
            if size <= MAX_BYTES:
                return path.read_bytes()
            self.unread[place] = f"the file has {size} bytes, at most {MAX_BYTES} are allowed; resize it first"
        except OSError as error:
            self.unread[place] = f"the file cannot be read: {error.strerror}"
        return b""


def _state(part: Path, files: Sequence[Path], version: Version) -> State:
    """The state of the same work by the same version, or a new one."""
    wanted = State(_digest(files), version.digest, str(version), version.dim)
    try:
        found = State(**read_json(part / "state.json", "the state"))
    except (NotFound, BadInput, TypeError):
        return wanted
    same = (found.files, found.version, found.dim) == (wanted.files, wanted.version, wanted.dim)
    held = (part / "rows.f32").stat().st_size if (part / "rows.f32").is_file() else 0
    return found if same and held >= 4 * found.done * found.dim else wanted


def _digest(files: Sequence[Path]) -> str:
    facts = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return sha256_bytes(json.dumps(facts).encode())


def _stored(chunks: Iterable[StreamChunk], photos: Photos, part: Path, state: State) -> Iterator[int]:
    """Write chunks as they come; yields once a row. The rows are written first, then how many count."""
    rows = part / "rows.f32"
    before = state.done
    with rows.open("r+b" if rows.exists() else "w+b") as stream:
        stream.truncate(4 * state.done * state.dim)  # what a kill left beyond the state
        stream.seek(0, 2)
        for chunk in chunks:
            _check_version(chunk.version, state)
            stream.write(np.ascontiguousarray(chunk.vectors, "<f4").tobytes())
            stream.flush()
            reach(ROWS_WRITTEN)
            for place, why in chunk.failed.items():
                state.failed[str(before + place)] = photos.unread.get(place, str(why))
            state.done += len(chunk.vectors)
            write_json(part / "state.json", asdict(state))
            yield from range(len(chunk.vectors))


def _check_version(version: Version, state: State) -> None:
    if version.digest != state.version:
        raise Conflict(
            f"{version} went live after {state.done} photos were embedded by {state.name}, and one array holds one "
            "version; run the command again, it begins anew"
        )


def _finish(part: Path, out: Path, state: State, files: Sequence[Path]) -> None:
    shape = (len(files), state.dim)
    rows = np.memmap(part / "rows.f32", "<f4", "r", shape=shape)
    with (part / out.name).open("wb") as stream:
        np.lib.format.write_array(stream, rows)
    write_atomic(out.with_suffix(".txt"), "".join(f"{path}\n" for path in files))
    (part / out.name).replace(out)
    shutil.rmtree(part)
