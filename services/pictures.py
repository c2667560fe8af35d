"""Small pictures of the catalogue's items, for the search page.

One thread of lower priority reads and shrinks photos, so that a page full of them does not slow searches down.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from services.keeper import Keeper
from services.priority import background_thread
from services.snapshot import Live, Snapshot
from vitrine.errors import NotFound
from vitrine.images import ImageSpec, decode

_SQUARE = ImageSpec(320, 320, resize="pad", interpolation="bilinear")  # shown at about half of it, for sharp screens
_QUALITY = 80
_KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Picture:
    """An item's first photo as a square JPEG; `name` is that of the photo, which follows from its content."""

    name: str
    jpeg: bytes


class Pictures:
    """Pictures of the live catalogue's items; the last ones asked for are kept, up to `kept_bytes`."""

    def __init__(self, live: Live, keeper: Keeper, kept_bytes: int = _KEPT_BYTES) -> None:
        self._live, self._keeper, self._room = live, keeper, kept_bytes
        self._kept: OrderedDict[str, Picture] = OrderedDict()  # used by the one thread alone
        self._thread = background_thread("pictures")

    async def of(self, item_id: str) -> Picture:
        """An item's picture.

        Raises:
            NotFound: no such item, or one whose photo is gone.
            Unsupported: the server has no catalogue.
            Unavailable: nothing is served yet.
        """
        with self._live.lease() as service:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, service.snapshot, item_id)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _find(self, snapshot: Snapshot, item_id: str) -> Picture:
        catalogue = self._keeper.catalogue(snapshot)
        item = catalogue.find([item_id]).get(item_id)
        if item is None or not item.images:
            raise NotFound(f"the catalogue {catalogue.name} has no photo of an item {item_id!r}")
        name = item.images[0]
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        return self._keep(Picture(name, _small(catalogue.photo(name))))

    def _keep(self, picture: Picture) -> Picture:
        self._kept[picture.name] = picture
        self._room -= len(picture.jpeg)
        while self._room < 0:
            _, oldest = self._kept.popitem(last=False)
            self._room += len(oldest.jpeg)
        return picture


def _small(photo: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(decode(photo, _SQUARE)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
