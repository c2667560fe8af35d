"""An item as the catalogue keeps it: canonical JSON, and digests that tell what kind of change a change is."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from vitrine.files import sha256_bytes
from vitrine.items import Item

_CONTENT = ("images", "title", "attributes", "numbers")
"""What a version may look at; a change of these is embedded anew, a change of anything else is not."""


def to_text(item: Item) -> str:
    """Canonical JSON: equal items give equal text."""
    return _text({field.name: _plain(item, field.name) for field in fields(Item)})


def from_text(text: str) -> Item:
    """The inverse of `to_text`."""
    values = json.loads(text)
    values["images"], values["category"] = tuple(values["images"]), tuple(values["category"])
    return Item(**values)


def record_digest(item: Item) -> str:
    """sha256 over everything that is known of an item."""
    return sha256_bytes(to_text(item).encode())


def content_digest(item: Item) -> str:
    """sha256 over what a version may look at: photos, title, attributes, numbers."""
    return sha256_bytes(_text({name: _plain(item, name) for name in _CONTENT}).encode())


def _plain(item: Item, name: str) -> Any:
    value = getattr(item, name)
    if name == "numbers":
        return {key: float(number) for key, number in value.items()}
    if name == "attributes":
        return dict(value)
    return float(value) if name == "price" and value is not None else value


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
