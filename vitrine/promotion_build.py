"""A collection's files made from scratch, in steps that survive the process.

    <home>/building/<collection>/<sha256>.npz     keys uint8 (n, 32), vectors float32 (n, D)

Vectors are kept by what they were made of, the version and the item's photos, so a run that was killed goes on where
it was, also where the catalogue has changed meanwhile. The folder goes when the collection is whole.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrine import failpoints
from vitrine.catalogue import Catalogue
from vitrine.embedding import embed_items
from vitrine.encoder import Encoder
from vitrine.files import sha256_bytes, write_atomic
from vitrine.items import Item
from vitrine.ports import Vectors
from vitrine.progress import Track, quiet

CHUNK = failpoints.point("promote.chunk", "one more chunk of vectors is on disk")
EMBEDDED = failpoints.point("promote.embedded", "all vectors are on disk, the collection is not")

_ITEMS_IN_CHUNK = 256


@dataclass(frozen=True)
class Workplace:
    """The folder of one unfinished collection, for vectors of one version on one engine.

    Attributes:
        folder: it need not exist.
        maker: digest of the version's manifest, and the engine.
    """

    folder: Path
    maker: str

    def key(self, item: Item) -> bytes:
        """What the item's vector is made of, 32 bytes: photos are named by their content."""
        return hashlib.sha256("\n".join((self.maker, *item.images)).encode()).digest()

    def known(self) -> dict[bytes, Vectors]:
        """Key -> unit vector (D,) of everything that is on disk; what cannot be read is made anew."""
        return {key: vector for path in sorted(self.folder.glob("*.npz")) for key, vector in _read(path)}

    def keep(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Put vectors (n, D) on disk, all or none."""
        stream = io.BytesIO()
        np.savez(stream, keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), vectors=vectors)
        data = stream.getvalue()
        write_atomic(self.folder / f"{sha256_bytes(data)}.npz", data)

    def remove(self) -> None:
        """Everything is where it belongs; nothing here is needed any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


def embed_catalogue(
    encoder: Encoder, catalogue: Catalogue, items: Sequence[Item], workplace: Workplace, track: Track = quiet
) -> Vectors:
    """One unit vector an item, float32 (N, D); those that an earlier run left on disk are not made again.

    Raises:
        BadInput: an item without an image, or a photo that cannot be decoded.
        NotFound, Tampered: a photo is missing or was changed.
    """
    known = workplace.known()
    keys = [workplace.key(item) for item in items]
    missing = list({key: item for key, item in zip(keys, items, strict=True) if key not in known}.values())
    photos = _Counted(catalogue, sum(len(item.images) for item in missing), len(known), track)
    for start in range(0, len(missing), _ITEMS_IN_CHUNK):
        some = missing[start : start + _ITEMS_IN_CHUNK]
        vectors = embed_items(encoder, photos, some)
        made = [workplace.key(item) for item in some]
        workplace.keep(made, vectors)
        known.update(zip(made, vectors, strict=True))
        failpoints.reach(CHUNK)
    photos.finish()
    failpoints.reach(EMBEDDED)
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, encoder.manifest.dim), np.float32)


class _Counted:
    """The catalogue's photos; one progress bar over all chunks moves with each that is read."""

    def __init__(self, catalogue: Catalogue, photos: int, on_disk: int, track: Track) -> None:
        self.name = catalogue.name
        before = f" ({on_disk:,} are on disk)" if on_disk else ""
        self._catalogue = catalogue
        self._steps = iter(track(range(photos), f"embedding {catalogue.name}{before}", photos))

    def photo(self, image: str) -> bytes:
        next(self._steps, None)
        return self._catalogue.photo(image)

    def finish(self) -> None:
        """Let the bar end."""
        for _ in self._steps:
            pass


def _read(path: Path) -> Iterator[tuple[bytes, Vectors]]:
    try:
        if sha256_bytes(path.read_bytes()) != path.stem:
            return
        with np.load(path, allow_pickle=False) as arrays:
            keys, vectors = arrays["keys"], arrays["vectors"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return
    yield from zip((row.tobytes() for row in keys), vectors, strict=True)
