"""The typed client: photos and texts in, numpy out, errors as the same leaves that the server raised.

with VitrineClient("127.0.0.1:50051") as client:
    result = client.embed([Path("mug.jpg").read_bytes()])
    result.vectors.shape, result.version.model     # (1, 256), 'homeware-search'
    client.search(text="red mug").hits             # where the version reads titles
    for chunk in client.embed_stream(photos):      # any number, in order, a few requests in memory
        chunk.start, chunk.vectors, chunk.failed

`AsyncVitrineClient` is the same with `await` and `async for`.
"""

from __future__ import annotations

from vitrine.client.aio import AsyncVitrineClient
from vitrine.client.channels import DEFAULT_SERVER, MAX_MESSAGE_BYTES, Tls
from vitrine.client.sync import VitrineClient
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
    StreamChunk,
    Version,
)

__all__ = [
    "DEFAULT_SERVER",
    "MAX_MESSAGE_BYTES",
    "AsyncVitrineClient",
    "CatalogueItem",
    "ChangeResult",
    "ClassifyResult",
    "EmbedResult",
    "Labelled",
    "Listing",
    "Query",
    "SearchResult",
    "ServerInfo",
    "StreamChunk",
    "Tls",
    "Version",
    "VitrineClient",
]
