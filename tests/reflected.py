"""A client that knows no generated code: it learns every message from the server's reflection."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def embed(address: str, data: bytes) -> Any:
    """`vitrine.v1.Embedding/Embed` of one photo, by reflection alone."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("vitrine.v1.Embedding").FindMethodByName("Embed")
        request = message_factory.GetMessageClass(method.input_type)()
        request.items.add().images.add().data = data
        call = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return call(request, timeout=10)
