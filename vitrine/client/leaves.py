"""What came over the wire as a leaf of the error tree."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from vitrine import errors
from vitrine.errors import Unavailable, VitrineError
from vitrine.v1 import embedding_pb2

_BY_CODE: dict[str, type[VitrineError]] = {
    leaf.grpc_status: leaf
    for leaf in (
        errors.BadInput,
        errors.Unsupported,
        errors.NotFound,
        errors.Conflict,
        errors.Unavailable,
        errors.Overloaded,
        errors.Tampered,
    )
}


def leaf(error: Any, target: str, timeout_s: float) -> VitrineError:
    """The leaf for a failed call: the server's own where it told one."""
    told = rpc_status.from_call(error)
    if told is not None:
        return told_leaf(told)
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


def told_leaf(told: status_pb2.Status) -> VitrineError:
    """The leaf that a rich status names."""
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
    kind = getattr(errors, reason, VitrineError)
    known = isinstance(kind, type) and issubclass(kind, VitrineError)
    return kind(told.message) if known else VitrineError(told.message)


def item_leaf(message: embedding_pb2.ItemError) -> VitrineError:
    """The leaf for one item of a stream."""
    kind = _BY_CODE.get(message.code, VitrineError)
    if kind is errors.BadInput:
        return errors.BadInput(message.message, field=message.field)
    return kind(message.message)
