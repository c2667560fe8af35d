"""Damaged photos and messages: case `number` of a seed is the same wherever it is drawn."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from vitrine.bench.asking import made_photos
from vitrine.v1 import common_pb2, embedding_pb2, search_pb2

METHODS = {
    "Embedding/Embed": embedding_pb2.EmbedRequest,
    "Embedding/Classify": embedding_pb2.ClassifyRequest,
    "Search/Search": search_pb2.SearchRequest,
}


@dataclass(frozen=True)
class Case:
    """What is sent: to an RPC or to a path, and what kind of damage it carries."""

    kind: str
    target: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


# --- photos -------------------------------------------------------------------------------------


def photos() -> list[bytes]:
    """Sound photos to damage: JPEG (also progressive, grey, CMYK, with EXIF), PNG (palette, alpha, 16 bit), WebP, GIF."""
    base = Image.open(io.BytesIO(made_photos(1, side=120)[0])).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    wide = Image.fromarray(np.arange(60 * 60, dtype=np.uint16).reshape(60, 60) * 18)
    return [
        _saved(base, "JPEG"),
        _saved(base, "JPEG", progressive=True),
        _saved(base, "JPEG", exif=turned),
        _saved(base.convert("L"), "JPEG"),
        _saved(base.convert("CMYK"), "JPEG"),
        _saved(base, "PNG"),
        _saved(base.convert("P"), "PNG"),
        _saved(base.convert("RGBA"), "PNG"),
        _saved(wide, "PNG"),
        _saved(base, "WEBP"),
        _saved(base, "WEBP", lossless=True),
        _saved(base.convert("P"), "GIF"),
    ]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def flipped(draw: random.Random, data: bytes) -> bytes:
    """A few bits the other way round."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 40)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(draw: random.Random, data: bytes) -> bytes:
    """Its end is missing."""
    return data[: draw.randrange(len(data))]


def spliced(draw: random.Random, data: bytes) -> bytes:
    """A piece repeated, taken out, or replaced by noise."""
    at, size = draw.randrange(len(data)), draw.randint(1, 400)
    piece = draw.choice([data[at : at + size] * draw.randint(2, 20), b"", draw.randbytes(size)])
    return data[:at] + piece + data[at + size :]


def resized(draw: random.Random, data: bytes) -> bytes:
    """The size in the header is another: a bomb, or nothing."""
    width, height = (draw.choice([0, 1, 65535, 30000, 2**31 - 1, draw.randrange(2**16)]) for _ in range(2))
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        if (at := data.find(marker)) > 0:
            return data[: at + 5] + struct.pack(">HH", height % 65536, width % 65536) + data[at + 9 :]
    return data[:20] + struct.pack("<II", width, height) + data[28:]


def noise(draw: random.Random, data: bytes) -> bytes:
    """No photo at all, sometimes with a photo's first bytes."""
    return data[: draw.choice([0, 2, 8, 16])] + draw.randbytes(draw.randrange(3000))


def sound(draw: random.Random, data: bytes) -> bytes:
    """Nothing is wrong with it."""
    del draw
    return data


def bomb(draw: random.Random, data: bytes) -> bytes:
    """A true PNG of many pixels in few bytes."""
    del data
    side = draw.choice([6000, 12000, 20000])
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (side // 8 + 1)) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


DAMAGE: tuple[Callable[[random.Random, bytes], bytes], ...] = (flipped, cut, spliced, resized, noise, sound)


# --- cases --------------------------------------------------------------------------------------


class Cases:
    """Case `number` of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed, self._photos = seed, photos()

    def __getitem__(self, number: int) -> Case:
        draw = random.Random(f"{self._seed}/{number}")
        make = draw.choices(
            (self._photo, self._message, self._fields, self._http_photo, self._http_json), (5, 3, 3, 2, 2)
        )
        return make[0](draw)

    def sound(self) -> Case:
        """One that must have a result."""
        item = common_pb2.Item(images=[common_pb2.Image(data=self._photos[0])])
        return Case("sound", "Embedding/Embed", embedding_pb2.EmbedRequest(items=[item]).SerializeToString())

    def _damaged(self, draw: random.Random) -> tuple[str, bytes]:
        if draw.random() < 0.002:
            return "bomb", bomb(draw, b"")
        damage = draw.choice(DAMAGE)
        return damage.__name__, damage(draw, draw.choice(self._photos))

    def _photo(self, draw: random.Random) -> Case:
        """A damaged photo in a sound message."""
        kind, data = self._damaged(draw)
        item = common_pb2.Item(images=[common_pb2.Image(data=data)])
        target = draw.choice(list(METHODS))
        request = search_pb2.SearchRequest(item=item) if target == "Search/Search" else METHODS[target](items=[item])
        return Case(f"photo {kind}", target, request.SerializeToString())

    def _message(self, draw: random.Random) -> Case:
        """Damaged bytes of a message, or of another method's."""
        sound_one = self._fields(draw)
        damage = draw.choice([flipped, cut, spliced, noise])
        body = damage(draw, sound_one.body) if sound_one.body else draw.randbytes(draw.randrange(200))
        return Case(f"message {damage.__name__}", draw.choice(list(METHODS)), body)

    def _fields(self, draw: random.Random) -> Case:
        """A message that can be read, with values that nobody should send."""
        if draw.random() < 0.5:
            return Case("fields", "Search/Search", self._search(draw).SerializeToString())
        items = [self._item(draw) for _ in range(draw.choice([0, 1, 1, 2, 5]))]
        if draw.random() < 0.5:
            request = embedding_pb2.EmbedRequest(items=items, dtype=draw.choice([0, 1, 2, 7, -1]), model=_text(draw))
            return Case("fields", "Embedding/Embed", request.SerializeToString())
        threshold = draw.choice([None, 0.5, -1.0, 2.0, float("nan"), float("inf")])
        asked = embedding_pb2.ClassifyRequest(
            items=items, top_k=draw.choice([0, 1, 5, 2**32 - 1]), abstain_below=threshold
        )
        return Case("fields", "Embedding/Classify", asked.SerializeToString())

    def _item(self, draw: random.Random) -> common_pb2.Item:
        image = common_pb2.Image(data=draw.choice(self._photos))
        images = draw.choice(
            [[], [image], [image] * 3, [common_pb2.Image()], [common_pb2.Image(url="file:///etc/passwd")]]
        )
        numbers = {_text(draw): draw.choice([0.0, float("nan"), 1e308])} if draw.random() < 0.1 else {}
        return common_pb2.Item(id=_text(draw), images=images, title=_text(draw), numbers=numbers)

    def _search(self, draw: random.Random) -> search_pb2.SearchRequest:
        request = search_pb2.SearchRequest(limit=draw.choice([0, 1, 10, 2**31, 2**32 - 1]), exact=draw.random() < 0.5)
        if draw.random() < 0.5:
            request.item_id = draw.choice(["item-3", "", _text(draw)])
        else:
            request.item.CopyFrom(self._item(draw))
        for _ in range(draw.choice([0, 0, 1, 3])):
            condition = request.filter.add()
            condition.MergeFromString(bytes([10, 5]) + draw.choice([b"label", b"price", b"brand", b"none!"]))
            if draw.random() < 0.7:
                try:
                    condition.MergeFromString(draw.randbytes(draw.randrange(12)))
                except Exception:  # noqa: BLE001, S112 -- noise that is no field stays out
                    continue
        return request

    def _http_photo(self, draw: random.Random) -> Case:
        kind, data = self._damaged(draw)
        path = draw.choice(
            ["/v1/embed", "/v1/classify", "/v1/search", "/v1/search?k=5", "/v1/search?k=" + _text(draw)[:9]]
        )
        return Case(f"HTTP photo {kind}", path, data)

    def _http_json(self, draw: random.Random) -> Case:
        values: list[object] = [
            None,
            True,
            1e308,
            "",
            _text(draw),
            [],
            {},
            [[]],
            base64.b64encode(draw.choice(self._photos)).decode(),
        ]
        body: object = {
            key: draw.choice([*values, [draw.choice(values)]])
            for key in draw.sample(["title", "images", "item_id", _text(draw)], draw.randint(0, 4))
        }
        text = json.dumps(draw.choice([body, body, body, draw.choice(values)])).encode()
        text = draw.choice([text, text, flipped(draw, text), b"[" * draw.choice([10, 100_000])])
        path = draw.choice(["/v1/embed", "/v1/classify", "/v1/search", "/v1/" + _text(draw)[:6]])
        return Case("HTTP json", path, text, {"content-type": "application/json"})


def _text(draw: random.Random) -> str:
    return draw.choice(
        [
            "",
            "red mug",
            "\0",
            "é" * 3000,
            "x" * 5000,
            "../../etc/passwd",
            "'; drop table",
            "\U0001f600",
            "a" * draw.randrange(300),
        ]
    )
