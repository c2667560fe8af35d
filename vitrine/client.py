"""The typed client: photos and texts in, numpy out, errors as the same leaves that the server raised.

with VitrineClient("127.0.0.1:50051") as client:
    result = client.embed([Path("mug.jpg").read_bytes()])
    result.vectors.shape, result.version.model     # (1, 256), 'homeware-search'
    client.search(text="red mug").hits             # where the version reads titles
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vitrine import errors
from vitrine.errors import Unavailable, VitrineError
from vitrine.ports import Condition, Filter, Hit, Vectors
from vitrine.tracecontext import client_span
from vitrine.v1 import common_pb2, embedding_pb2, embedding_pb2_grpc, search_pb2, search_pb2_grpc

DEFAULT_SERVER = "127.0.0.1:50051"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Listing:
    """A query item: encoded photos, and what a multimodal version can use beside them or instead."""

    images: tuple[bytes, ...] = ()
    title: str = ""
    attributes: Mapping[str, str] | None = None
    numbers: Mapping[str, float] | None = None


Query = bytes | Listing
"""One encoded photo, or an item."""


@dataclass(frozen=True)
class Version:
    """The version that answered; `labels` is how many its classifier knows."""

    model: str
    version: int
    digest: str
    modalities: tuple[str, ...]
    dim: int
    labels: int

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class EmbedResult:
    """float32 (B, D) unit rows in the order asked for."""

    vectors: Vectors
    version: Version


@dataclass(frozen=True)
class Labelled:
    """(label, probability) pairs, best first; `abstained` when the best is below the threshold."""

    labels: tuple[tuple[str, float], ...]
    abstained: bool


@dataclass(frozen=True)
class ClassifyResult:
    """One `Labelled` an item."""

    items: tuple[Labelled, ...]
    version: Version


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and the collection they come from."""

    hits: tuple[Hit, ...]
    collection: str
    version: Version


@dataclass(frozen=True)
class ServerInfo:
    """What a server serves now; `collection` is empty where it cannot search."""

    version: Version
    collection: str
    items: int


class VitrineClient:
    """A connection to one server. Safe for several threads; close it, or use it as a context manager.

    Args:
        target: `HOST:PORT` of the gRPC server.
        timeout_s: deadline of each call.
    """

    def __init__(self, target: str = DEFAULT_SERVER, *, timeout_s: float = 10.0) -> None:
        self.target, self._timeout_s = target, timeout_s
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        self._channel = grpc.insecure_channel(target, options=options)
        self._embedding = embedding_pb2_grpc.EmbeddingStub(self._channel)
        self._searching = search_pb2_grpc.SearchStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def embed(
        self, items: Sequence[Query], *, dtype: Literal["float32", "float16"] = "float32", model: str = ""
    ) -> EmbedResult:
        """Unit vectors of B items; `dtype` is what travels, the result is float32 either way.

        A text is `Listing(title="red mug")`; photos and a title together give the mean of both, normalised again.

        Raises:
            VitrineError: the server's own error, or `Unavailable` where none answers.
        """
        wire = common_pb2.Tensor.FLOAT16 if dtype == "float16" else common_pb2.Tensor.FLOAT32
        request = embedding_pb2.EmbedRequest(model=model, items=[_item(item) for item in items], dtype=wire)
        answer = self._call(self._embedding.Embed, request)
        return EmbedResult(_vectors(answer.embeddings), _version(answer.version))

    def classify(self, items: Sequence[Query], *, top_k: int = 5, abstain_below: float | None = None) -> ClassifyResult:
        """The best `top_k` labels of each item; the version's own threshold unless one is given.

        Raises:
            Unsupported: the version has no label set.
        """
        request = embedding_pb2.ClassifyRequest(
            items=[_item(item) for item in items], top_k=top_k, abstain_below=abstain_below
        )
        answer = self._call(self._embedding.Classify, request)
        found = tuple(
            Labelled(tuple((label.label, label.probability) for label in one.labels), one.abstained)
            for one in answer.classifications
        )
        return ClassifyResult(found, _version(answer.version))

    def search(
        self,
        photo: Query | None = None,
        *,
        text: str = "",
        item_id: str | None = None,
        k: int = 10,
        where: Filter = (),
        exact: bool = False,
    ) -> SearchResult:
        """The K items of the live catalogue nearest to a photo, a text, both at once, or one of its own items.

        Raises:
            BadInput: neither a photo, a text nor an `item_id`, or an `item_id` beside another; a text for a version
                that reads none; a filter the catalogue cannot answer.
            NotFound: no such item.
            Unsupported: the server has no catalogue.
        """
        if (photo is None and not text) == (item_id is None):
            raise errors.BadInput("a search takes a photo, a text, or both, or else an item_id", field="query")
        request = search_pb2.SearchRequest(
            filter=[_condition(condition) for condition in where],
            limit=k,
            exact=exact,
        )
        if item_id is not None:
            request.item_id = item_id
        else:
            request.item.CopyFrom(_item(_with_text(photo, text)))
        answer = self._call(self._searching.Search, request)
        return SearchResult(tuple(_hit(hit) for hit in answer.hits), answer.collection, _version(answer.version))

    def info(self) -> ServerInfo:
        """What the server serves now."""
        answer = self._call(self._embedding.Info, embedding_pb2.InfoRequest())
        return ServerInfo(_version(answer.version), answer.collection, answer.items)

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            with client_span(type(request).__name__.removesuffix("Request"), self.target) as headers:
                return method(request, timeout=self._timeout_s, metadata=headers)
        except grpc.RpcError as error:
            raise _leaf(error, self.target, self._timeout_s) from error


def _leaf(error: Any, target: str, timeout_s: float) -> VitrineError:
    """The error tree's leaf for what came over the wire."""
    told = rpc_status.from_call(error)
    if told is not None:
        return _told(told)
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"no server answers at {target} ({details}); start one: vitrine serve")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the server at {target} did not answer within {timeout_s:g} s; try again or allow more")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return errors.BadInput(f"the message does not fit: {details}; send fewer or smaller images")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.Overloaded(f"the server at {target} has too many calls in progress; try again in a moment")
    return VitrineError(f"the server at {target} answered {code.name}: {details}")


def _told(told: status_pb2.Status) -> VitrineError:
    reason, field, retry_s = "", "", 0.1
    for packed in told.details:
        info, wrong, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(wrong):
            field = wrong.field_violations[0].field
        elif packed.Unpack(retry):
            retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    if reason == "BadInput":
        return errors.BadInput(told.message, field=field)
    if reason == "Overloaded":
        return errors.Overloaded(told.message, retry_after_s=retry_s)
    leaf = getattr(errors, reason, VitrineError)
    known = isinstance(leaf, type) and issubclass(leaf, VitrineError)
    return leaf(told.message) if known else VitrineError(told.message)


def _with_text(query: Query | None, text: str) -> Listing:
    listing = query if isinstance(query, Listing) else Listing((query,) if query is not None else ())
    if text and listing.title:
        raise errors.BadInput("the text is given twice: as text and as the listing's title", field="text")
    return replace(listing, title=text or listing.title)


def _item(query: Query) -> common_pb2.Item:
    listing = Listing((query,)) if isinstance(query, bytes) else query
    return common_pb2.Item(
        images=[common_pb2.Image(data=data) for data in listing.images],
        title=listing.title,
        attributes=listing.attributes or {},
        numbers=listing.numbers or {},
    )


def _condition(condition: Condition) -> search_pb2.Condition:
    return search_pb2.Condition(field=condition.field, any_of=condition.any_of, low=condition.low, high=condition.high)


def _vectors(tensor: common_pb2.Tensor) -> Vectors:
    kind = "<f2" if tensor.dtype == common_pb2.Tensor.FLOAT16 else "<f4"
    return np.frombuffer(tensor.data, kind).reshape(tuple(tensor.shape)).astype(np.float32)


def _hit(hit: search_pb2.Hit) -> Hit:
    return Hit(hit.item_id, hit.score, MessageToDict(hit.payload))


def _version(info: common_pb2.VersionInfo) -> Version:
    return Version(info.model, info.version, info.digest, tuple(info.modalities), info.dim, info.labels)
