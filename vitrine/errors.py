"""Every error a user can meet, with its exit code and its gRPC status name.

    VitrineError          1  INTERNAL             our fault
    |- BadInput           2  INVALID_ARGUMENT     what was given is not allowed
    |- Unsupported        2  FAILED_PRECONDITION  allowed elsewhere, not by this version or server
    |- Refused            3  FAILED_PRECONDITION  a gate said no
    |- NotFound           4  NOT_FOUND            no such model, version, dataset, item
    |- Conflict           5  ABORTED              somebody else was first
    |- Unavailable        6  UNAVAILABLE          a server or engine cannot be reached
    |  `- Overloaded      6  RESOURCE_EXHAUSTED   full; try again in a moment
    `- Tampered           1  DATA_LOSS            bytes do not match their recorded digest

A message says what was given, what is allowed and what to do next.
"""


class VitrineError(Exception):
    """Root of the tree; raised itself only where no leaf says it better."""

    exit_code = 1
    grpc_status = "INTERNAL"


class BadInput(VitrineError):
    """What was given is not allowed. `field` names the offending field or option, if there is one."""

    exit_code = 2
    grpc_status = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Unsupported(VitrineError):
    """A sound request that this version, server or set-up cannot answer."""

    exit_code = 2
    grpc_status = "FAILED_PRECONDITION"


class Refused(VitrineError):
    """A promotion gate said no."""

    exit_code = 3
    grpc_status = "FAILED_PRECONDITION"


class NotFound(VitrineError):
    """No model, version, dataset, item or file of that name."""

    exit_code = 4
    grpc_status = "NOT_FOUND"


class Conflict(VitrineError):
    """The state changed underneath, or the thing exists already with other content."""

    exit_code = 5
    grpc_status = "ABORTED"


class Unavailable(VitrineError):
    """A server, engine or library that is needed cannot be reached."""

    exit_code = 6
    grpc_status = "UNAVAILABLE"


class Overloaded(Unavailable):
    """The queue is full. `retry_after_s` says when another try is worthwhile."""

    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, *, retry_after_s: float = 0.1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Tampered(VitrineError):
    """Bytes on disk do not match the digest recorded for them; they are never loaded."""

    grpc_status = "DATA_LOSS"
