"""Where the living catalogue is kept, in the registry's database.

    catalogues         name; seq: the number of its last change; synced: digest of the dataset last taken over;
                       history: drawn when the catalogue is made, so that its numbers cannot be mixed with another's
    catalogue_items    the latest state of each item: seq of its last change; content_seq of the last one that must be
                       embedded; record (JSON text, null for a deleted item); content (digest);
                       synced (digest of the dataset's record that was last taken over, null for none)
    collection_state   applied: every change of the catalogue up to here is in the collection's files or deltas;
                       pruned: deltas up to here are in the files and were removed
    collection_deltas  item_id, seq, vector (float32, little-endian; null for a deleted item), payload (JSON text)
    catalogue_meta     key, value: the schema's version

The tables are made when they are first needed.
"""

from __future__ import annotations

import sqlalchemy as sa

from vitrine.database import Database

SCHEMA = 1

_tables = sa.MetaData()
catalogues = sa.Table(
    "catalogues",
    _tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("synced", sa.String(64), nullable=False),
    sa.Column("history", sa.String(16), nullable=False),
)
items = sa.Table(
    "catalogue_items",
    _tables,
    sa.Column("catalogue", sa.String(64), primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("content_seq", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text),
    sa.Column("content", sa.String(64)),
    sa.Column("synced", sa.String(64)),
    sa.Index("catalogue_items_by_seq", "catalogue", "seq"),
)
states = sa.Table(
    "collection_state",
    _tables,
    sa.Column("collection", sa.String(160), primary_key=True),
    sa.Column("applied", sa.BigInteger, nullable=False),
    sa.Column("pruned", sa.BigInteger, nullable=False),
)
deltas = sa.Table(
    "collection_deltas",
    _tables,
    sa.Column("collection", sa.String(160), primary_key=True),
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("vector", sa.LargeBinary),
    sa.Column("payload", sa.Text),
    sa.Index("collection_deltas_by_seq", "collection", "seq"),
)
_meta = sa.Table(
    "catalogue_meta",
    _tables,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def open_tables(url: str) -> Database:
    """The catalogue's tables at a URL, made if there are none.

    Raises:
        BadInput: no such kind of URL, or written by a newer release.
        Tampered, Unavailable: as `Database`.
    """
    return Database(url, _tables, _meta, SCHEMA)
