"""The canonical form of a dataset: what `vitrine data import` writes and everything downstream reads.

    items.parquet     one row an item, sorted by item id; attributes and numbers as JSON text
    labels.parquet    one row a class, classes without a photo included
    dataset.json      name, format, source as given, protocols, licence, counts, broken photos, digest
    images/           photos as they came, each named by the sha256 of its bytes

The digest covers items, labels, protocols and licence as canonical JSON lines, photos by their hashes.
It knows nothing of the folder, the name, the time or the parquet library, so equal content is equal.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitrine.errors import BadInput, NotFound, Tampered
from vitrine.files import read_json, sha256_bytes, write_json
from vitrine.home import Home
from vitrine.items import EvalProtocol, Item, LabelInfo, Split

SCHEMA = 2
ITEMS, LABELS, INFO, IMAGES = "items.parquet", "labels.parquet", "dataset.json", "images"

_PHOTO = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}")
_TEXTS = pa.list_(pa.string())
_ITEM_COLUMNS = pa.schema(
    [
        ("item_id", pa.string()),
        ("images", _TEXTS),
        ("label", pa.string()),
        ("split", pa.string()),
        ("category", _TEXTS),
        ("product_id", pa.string()),
        ("title", pa.string()),
        ("attributes", pa.string()),
        ("numbers", pa.string()),
        ("price", pa.float64()),
        ("brand", pa.string()),
        ("seller", pa.string()),
        ("time", pa.string()),
    ]
)
_LABEL_COLUMNS = pa.schema(
    [("label", pa.string()), ("category", _TEXTS), ("description", pa.string()), ("image", pa.string())]
)


@dataclass(frozen=True)
class Dataset:
    """A dataset on this disk.

    Attributes:
        folder: where it lies; `images/` is in it.
        items: sorted by item id.
        protocols: how it can be evaluated; the first is the default.
        labels: every class, sorted by label, also those without a photo.
        source: `format`, `path` as it was given, `options`.
        broken: (photo, reason) of each photo that the import left out.
    """

    folder: Path
    name: str
    digest: str
    items: tuple[Item, ...]
    protocols: tuple[EvalProtocol, ...]
    licence: str
    labels: tuple[LabelInfo, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()

    def split(self, *splits: Split) -> list[Item]:
        """The items of these splits, in order of item id."""
        return [item for item in self.items if item.split in splits]

    def counts(self) -> dict[str, int]:
        """Items per split."""
        return split_counts(self.items)

    def protocol(self, name: str | None = None) -> EvalProtocol:
        """An evaluation protocol by name, the default one without.

        Raises:
            BadInput: no such protocol; the message lists the known ones.
        """
        if name is None:
            return self.protocols[0]
        for protocol in self.protocols:
            if protocol.name == name:
                return protocol
        known = ", ".join(protocol.name for protocol in self.protocols)
        raise BadInput(f"dataset {self.name} has no protocol {name!r}; it has: {known}", field="protocol")

    def photo(self, image: str) -> bytes:
        """The bytes of a photo, compared with the hash that is its name.

        Raises:
            NotFound: no photo of that name.
            Tampered: the bytes changed since the import.
        """
        return read_photo(self.folder, image, self.name)

    def catalogue_items(self) -> list[Item]:
        """What a shop would index: all items but those that the default protocol only asks with."""
        default = self.protocol()
        only_queries = set(default.query) - set(default.gallery)
        return [item for item in self.items if item.split not in only_queries]


def read_photo(folder: Path, image: str, name: str) -> bytes:
    """The bytes of a photo of the dataset in `folder`, whose name is for messages; as `Dataset.photo`.

    Raises:
        NotFound: no photo of that name.
        Tampered: the bytes changed since the import.
    """
    path = folder / IMAGES / image
    if not _PHOTO.fullmatch(image) or not path.is_file():
        raise NotFound(f"dataset {name} has no photo {image!r} in {folder / IMAGES}; import it again")
    data = path.read_bytes()
    if sha256_bytes(data) != image.partition(".")[0]:
        raise Tampered(f"photo {image[:12]}… of dataset {name} was changed after the import; import it again")
    return data


def split_counts(items: Iterable[Item]) -> dict[str, int]:
    """Items per split, in the order train, val, test, gallery; splits without items are left out."""
    found = Counter(item.split for item in items)
    order: tuple[Split, ...] = ("train", "val", "test", "gallery")
    return {split: found[split] for split in order if found[split]}


def content_digest(
    items: Iterable[Item], labels: Iterable[LabelInfo], protocols: Sequence[EvalProtocol], licence: str
) -> str:
    """sha256 over the canonical JSON lines of the content; the order of items and labels is no content."""
    digest = hashlib.sha256(_line({"schema": SCHEMA, "licence": licence, "protocols": [asdict(p) for p in protocols]}))
    for label in sorted(labels, key=lambda info: info.label):
        digest.update(_line(asdict(label)))
    for item in sorted(items, key=lambda item: item.item_id):
        digest.update(_line(_fields(item)))
    return digest.hexdigest()


def write_records(
    folder: Path,
    *,
    name: str,
    items: Iterable[Item],
    labels: Iterable[LabelInfo],
    protocols: Sequence[EvalProtocol],
    licence: str,
    source: Mapping[str, Any],
    broken: Sequence[tuple[str, str]] = (),
) -> str:
    """Write both tables and `dataset.json` beside the photos, and return the digest."""
    items = sorted(items, key=lambda item: item.item_id)
    labels = sorted(labels, key=lambda info: info.label)
    digest = content_digest(items, labels, protocols, licence)
    rows = [_item_row(item) for item in items]
    pq.write_table(pa.Table.from_pylist(rows, _ITEM_COLUMNS), folder / ITEMS)
    pq.write_table(pa.Table.from_pylist([asdict(info) for info in labels], _LABEL_COLUMNS), folder / LABELS)
    info = {
        "schema": SCHEMA,
        "name": name,
        **source,
        "protocols": [asdict(protocol) for protocol in protocols],
        "licence": licence,
        "counts": split_counts(items),
        "broken": [list(pair) for pair in broken],
        "digest": digest,
    }
    write_json(folder / INFO, info)
    return digest


def load_dataset(folder: Path) -> Dataset:
    """Read a dataset folder; photos are read later, one at a time.

    Raises:
        NotFound: no dataset there.
        BadInput: written by a release with another schema.
        Tampered: a table does not match the recorded digest.
    """
    info = read_json(folder / INFO, "dataset")
    if info.get("schema") != SCHEMA:
        raise BadInput(
            f"{folder} has dataset schema {info.get('schema')!r}, this release reads {SCHEMA}; import it again"
        )
    items = tuple(_item(row) for row in _rows(folder / ITEMS))
    labels = tuple(LabelInfo(**{**row, "category": tuple(row["category"])}) for row in _rows(folder / LABELS))
    protocols = tuple(_protocol(fields) for fields in info["protocols"])
    if content_digest(items, labels, protocols, info["licence"]) != info["digest"]:
        raise Tampered(f"the tables in {folder} were changed after the import; import the dataset again")
    return Dataset(
        folder=folder,
        name=info["name"],
        digest=info["digest"],
        items=items,
        protocols=protocols,
        licence=info["licence"],
        labels=labels,
        source={key: info[key] for key in ("format", "path", "options") if key in info},
        broken=tuple((photo, reason) for photo, reason in info["broken"]),
    )


def dataset_names(home: Home) -> list[str]:
    """Names of the imported datasets, sorted."""
    if not home.datasets.is_dir():
        return []
    return sorted(path.parent.name for path in home.datasets.glob(f"[!.]*/{INFO}"))


def find_dataset(home: Home, name: str) -> Dataset:
    """Load an imported dataset by name.

    Raises:
        NotFound: none of that name; the message lists the known ones and how to import one.
    """
    known = dataset_names(home)
    if name not in known:
        raise NotFound(
            f"there is no dataset {name!r} in {home.datasets}; known: {', '.join(known) or 'none'}; "
            f"import it: vitrine data import FORMAT PATH --name {name}"
        )
    return load_dataset(home.datasets / name)


def _fields(item: Item) -> dict[str, Any]:
    # Not asdict: it deep-copies, which is slow for a large catalogue and fails on some mappings.
    fields = {name: getattr(item, name) for name in _ITEM_COLUMNS.names}
    fields["attributes"] = dict(item.attributes)
    fields["numbers"] = {key: float(value) for key, value in item.numbers.items()}
    fields["price"] = None if item.price is None else float(item.price)
    return fields


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _item_row(item: Item) -> dict[str, Any]:
    fields = _fields(item)
    for name in ("attributes", "numbers"):
        fields[name] = json.dumps(fields[name], sort_keys=True, ensure_ascii=False)
    return fields


def _item(row: dict[str, Any]) -> Item:
    for name in ("attributes", "numbers"):
        row[name] = json.loads(row[name])
    for name in ("images", "category"):
        row[name] = tuple(row[name])
    return Item(**row)


def _protocol(fields: Mapping[str, Any]) -> EvalProtocol:
    return EvalProtocol(
        fields["name"], tuple(fields["query"]), tuple(fields["gallery"]), fields["relevance"], fields["ask_by"]
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError as error:
        raise Tampered(f"{path} is missing; import the dataset again") from error
    except pa.ArrowInvalid as error:
        raise Tampered(f"{path} is no readable parquet file ({error}); import the dataset again") from error
    return rows
