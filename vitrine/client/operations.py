"""Every unary RPC once: its request from Python values, its answer back to Python values. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from vitrine.client.types import (
    CatalogueItem,
    ChangeResult,
    ClassifyResult,
    EmbedResult,
    Labelled,
    Listing,
    Query,
    SearchResult,
    ServerInfo,
    Version,
)
from vitrine.errors import BadInput
from vitrine.ports import Condition, Filter, Hit, Vectors
from vitrine.v1 import catalogue_pb2, common_pb2, embedding_pb2, search_pb2

Result = TypeVar("Result")
DType = Literal["float32", "float16"]


@dataclass(frozen=True)
class Operation(Generic[Result]):
    """A call: which method, with what, and what its answer means.

    Every method may be sent twice: searches change nothing, and changes of the catalogue are idempotent.
    """

    method: str
    request: Message
    answer: type[Message]
    read: Callable[[Any], Result]

    @property
    def name(self) -> str:
        """The method's bare name."""
        return self.method.rpartition("/")[2]


def embed(items: Sequence[Query], *, dtype: DType = "float32", model: str = "") -> Operation[EmbedResult]:
    """Unit vectors of B items; `dtype` is what travels, the result is float32 either way.

    A text is `Listing(title="red mug")`; photos and a title together give the mean of both, normalised again.

    Raises:
        VitrineError: the server's own error, or `Unavailable` where none answers.
    """
    request = embedding_pb2.EmbedRequest(model=model, items=[item(one) for one in items], dtype=wire_dtype(dtype))
    return Operation(
        "/vitrine.v1.Embedding/Embed",
        request,
        embedding_pb2.EmbedResponse,
        lambda answer: EmbedResult(vectors(answer.embeddings), version(answer.version)),
    )


def classify(
    items: Sequence[Query], *, top_k: int = 5, abstain_below: float | None = None
) -> Operation[ClassifyResult]:
    """The best `top_k` labels of each item; the version's own threshold unless one is given.

    Raises:
        Unsupported: the version has no label set.
    """
    request = embedding_pb2.ClassifyRequest(
        items=[item(one) for one in items], top_k=top_k, abstain_below=abstain_below
    )
    return Operation("/vitrine.v1.Embedding/Classify", request, embedding_pb2.ClassifyResponse, _classified)


def search(
    photo: Query | None = None,
    *,
    text: str = "",
    item_id: str | None = None,
    k: int = 10,
    where: Filter = (),
    exact: bool = False,
    by_product: bool = False,
) -> Operation[SearchResult]:
    """The K items of the live catalogue nearest to a photo, a text, both at once, or one of its own items.

    Every hit meets all conditions of `where`. `exact` compares with every item instead of asking an approximate index;
    `by_product` gives the best item of each product only.

    Raises:
        BadInput: neither a photo, a text nor an `item_id`, or an `item_id` beside another; a text for a version
            that reads none; a filter the catalogue cannot answer.
        NotFound: no such item.
        Unsupported: the server has no catalogue.
    """
    if (photo is None and not text) == (item_id is None):
        raise BadInput("a search takes a photo, a text, or both, or else an item_id", field="query")
    conditions = [_condition(one) for one in where]
    request = search_pb2.SearchRequest(filter=conditions, limit=k, exact=exact, by_product=by_product)
    if item_id is not None:
        request.item_id = item_id
    else:
        request.item.CopyFrom(item(_with_text(photo, text)))
    return Operation(
        "/vitrine.v1.Search/Search",
        request,
        search_pb2.SearchResponse,
        lambda answer: SearchResult(
            tuple(_hit(hit) for hit in answer.hits), answer.collection, version(answer.version)
        ),
    )


def info() -> Operation[ServerInfo]:
    """What the server serves now."""
    return Operation(
        "/vitrine.v1.Embedding/Info",
        embedding_pb2.InfoRequest(),
        embedding_pb2.InfoResponse,
        lambda told: ServerInfo(
            version(told.version), told.collection, told.items, told.engine, told.precision, told.catalogue_seq
        ),
    )


def upsert(items: Sequence[CatalogueItem], *, catalogue: str = "") -> Operation[ChangeResult]:
    """Add items to the catalogue or change them, all or none; searches see them when this returns.

    Equal content again changes nothing.

    Raises:
        BadInput: an item that the catalogue cannot take, by its place and field.
        NotFound: the server searches another catalogue.
    """
    request = catalogue_pb2.UpsertRequest(catalogue=catalogue, items=[_catalogue_item(one) for one in items])
    return Operation("/vitrine.v1.Catalogue/Upsert", request, catalogue_pb2.ChangeResponse, _changed)


def delete(item_ids: Sequence[str], *, catalogue: str = "") -> Operation[ChangeResult]:
    """Take items out of the catalogue; one that is not there is no error.

    Raises:
        NotFound: the server searches another catalogue.
    """
    request = catalogue_pb2.DeleteRequest(catalogue=catalogue, item_ids=item_ids)
    return Operation("/vitrine.v1.Catalogue/Delete", request, catalogue_pb2.ChangeResponse, _changed)


def item(query: Query) -> common_pb2.Item:
    """An item as a message."""
    listing = Listing((query,)) if isinstance(query, bytes) else query
    return common_pb2.Item(
        images=[common_pb2.Image(data=data) for data in listing.images],
        title=listing.title,
        attributes=listing.attributes or {},
        numbers=listing.numbers or {},
    )


def wire_dtype(dtype: DType) -> common_pb2.Tensor.DType.ValueType:
    """What vectors travel as."""
    return common_pb2.Tensor.FLOAT16 if dtype == "float16" else common_pb2.Tensor.FLOAT32


def vectors(tensor: common_pb2.Tensor) -> Vectors:
    """A tensor as float32."""
    kind = "<f2" if tensor.dtype == common_pb2.Tensor.FLOAT16 else "<f4"
    return np.frombuffer(tensor.data, kind).reshape(tuple(tensor.shape)).astype(np.float32)


def version(told: common_pb2.VersionInfo) -> Version:
    """Who answered."""
    return Version(told.model, told.version, told.digest, tuple(told.modalities), told.dim, told.labels)


def _with_text(query: Query | None, text: str) -> Listing:
    listing = query if isinstance(query, Listing) else Listing((query,) if query is not None else ())
    if text and listing.title:
        raise BadInput("the text is given twice: as text and as the listing's title", field="text")
    return replace(listing, title=text or listing.title)


def _condition(condition: Condition) -> search_pb2.Condition:
    return search_pb2.Condition(field=condition.field, any_of=condition.any_of, low=condition.low, high=condition.high)


def _catalogue_item(one: CatalogueItem) -> catalogue_pb2.CatalogueItem:
    inner = item(Listing(one.images, one.title, one.attributes, one.numbers))
    inner.id = one.item_id
    return catalogue_pb2.CatalogueItem(
        item=inner,
        product_id=one.product_id,
        category=one.category,
        price=one.price,
        brand=one.brand,
        seller=one.seller,
        time=one.time,
    )


def _classified(answer: embedding_pb2.ClassifyResponse) -> ClassifyResult:
    found = tuple(
        Labelled(tuple((label.label, label.probability) for label in one.labels), one.abstained)
        for one in answer.classifications
    )
    return ClassifyResult(found, version(answer.version))


def _changed(answer: catalogue_pb2.ChangeResponse) -> ChangeResult:
    name = catalogue_pb2.Change.Outcome.Name
    outcomes = tuple((change.item_id, name(change.outcome).lower()) for change in answer.changes)
    return ChangeResult(outcomes, answer.catalogue, answer.catalogue_seq, answer.collection, version(answer.version))


def _hit(hit: search_pb2.Hit) -> Hit:
    return Hit(hit.item_id, hit.score, MessageToDict(hit.payload))
