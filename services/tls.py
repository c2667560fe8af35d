"""TLS of the gRPC port, and mutual TLS where clients must show who they are. BentoML's own options do HTTP's."""

from __future__ import annotations

from pathlib import Path

import grpc

from services.config import Settings
from vitrine.errors import BadInput, NotFound


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The port's credentials; None where TLS is not set up.

    Raises:
        NotFound: a file is missing.
        BadInput: a file is no PEM.
    """
    if not settings.tls_cert:
        return None
    key, chain = _pem("tls_key", settings.tls_key), _pem("tls_cert", settings.tls_cert)
    signers = _pem("tls_client_ca", settings.tls_client_ca) if settings.tls_client_ca else None
    return grpc.ssl_server_credentials([(key, chain)], signers, require_client_auth=signers is not None)


def _pem(name: str, path: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise NotFound(f"{name} names {path}, which cannot be read: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise BadInput(f"{name} names {path}, which is no PEM file; it must begin with -----BEGIN", field=name)
    return content
