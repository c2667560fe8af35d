"""A small collection for the tests of indexes, and what a plain loop finds in it."""

import secrets

import numpy as np

from vitrine.collection import Collection, write_collection
from vitrine.encoder import normalise
from vitrine.ports import Delta

COUNT, DIM = 120, 12


def payload(row):
    return (
        {"label": ["jug", "mug", "pan"][row % 3], "category": ["kitchen", ["a", "b"][row % 2]]}
        | ({"price": float(row)} if row % 5 else {})
        | ({"product_id": f"p{row // 4}"} if row % 7 else {})
    )


def make(folder, *, name=None, digest="d1", version=7, seed=0, count=COUNT, vectors=None, **fields) -> Collection:
    drawn = normalise(np.random.default_rng(seed).normal(size=(count, DIM))) if vectors is None else vectors
    return write_collection(
        folder,
        name=name or f"shop--m{secrets.token_hex(4)}--{version}",
        catalogue="shop",
        catalogue_digest="c",
        model="m",
        version=version,
        digest=digest,
        vectors=drawn,
        item_ids=[f"i{row:04d}" for row in range(len(drawn))],
        payloads=[payload(row) for row in range(len(drawn))],
        **fields,
    )


def queries(count, seed=1):
    return normalise(np.random.default_rng(seed).normal(size=(count, DIM)))


def upsert(seq, item_id, vector, **fields):
    return Delta(seq, item_id, np.asarray(vector, np.float32), {"label": "new", **fields})


def delete(seq, item_id):
    return Delta(seq, item_id, None, None)


class Twin:
    """The collection as a dictionary, changed and searched by plain loops."""

    def __init__(self, collection):
        rows = zip(collection.item_ids, np.asarray(collection.vectors), collection.payloads, strict=True)
        self.items = {item_id: (vector, payload) for item_id, vector, payload in rows}
        self.seqs = {}
        self.written = collection.info.seq

    def apply(self, deltas):
        for delta in deltas:
            if delta.seq <= self.seqs.get(delta.item_id, self.written):
                continue
            self.seqs[delta.item_id] = delta.seq
            self.items.pop(delta.item_id, None)
            if delta.vector is not None:
                self.items[delta.item_id] = (delta.vector, delta.payload)

    def search(self, query, k, allowed=lambda _: True, by_product=False):
        scored = sorted(
            (-float(np.dot(vector.astype(np.float64), query)), item_id)
            for item_id, (vector, payload) in self.items.items()
            if allowed(payload)
        )
        if not by_product:
            return [item_id for _, item_id in scored[:k]]
        best = {}
        for _, item_id in scored:
            best.setdefault(self.items[item_id][1].get("product_id") or (item_id,), item_id)
        return list(best.values())[:k]


def found(hits):
    return [hit.item_id for hit in hits]
