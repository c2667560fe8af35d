"""One table from our errors to gRPC statuses and HTTP codes."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from vitrine.errors import BadInput, Overloaded, VitrineError

DOMAIN = "vitrine"
MESSAGE_BYTES = (
    700  # a status travels in trailers, of which clients take 8 KiB: as text, and in base64 with its details
)

HTTP_CODES = {
    "INTERNAL": 500,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 409,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "UNAVAILABLE": 503,
    "RESOURCE_EXHAUSTED": 429,
    "DATA_LOSS": 500,
}


@dataclass(frozen=True)
class HttpError:
    """An error as HTTP: code, headers, JSON body."""

    code: int
    headers: dict[str, str]
    body: dict[str, object]


def rpc_status(error: VitrineError) -> status_pb2.Status:
    """The rich gRPC status: which error it is, which field was wrong, when to try again."""
    details = [error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN)]
    if isinstance(error, BadInput) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=_cut(error.field), description=_cut(str(error)))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.grpc_status), message=_cut(str(error)), details=[_packed(d) for d in details]
    )


def http_error(error: VitrineError) -> HttpError:
    """The same as HTTP."""
    body: dict[str, object] = {"error": type(error).__name__, "message": str(error)}
    headers = {}
    if isinstance(error, BadInput) and error.field:
        body["field"] = error.field
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return HttpError(HTTP_CODES[error.grpc_status], headers, body)


def _cut(text: str) -> str:
    """What a caller sent may be in a message, and be long."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MESSAGE_BYTES else data[:MESSAGE_BYTES].decode("utf-8", "ignore") + "…"


def _packed(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]  # the details come from an untyped package
    return packed
