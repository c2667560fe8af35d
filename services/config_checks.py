"""Settings that no server could start with, found before one is started that would wait for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from services import tracing
from vitrine import plugins
from vitrine.errors import BadInput
from vitrine.ports import Precision

if TYPE_CHECKING:
    from services.config import Settings

_LAST_PORT = 65_535


def check(settings: Settings) -> None:
    """Refuse an address, a plug-in or a combination that cannot be.

    Raises:
        BadInput: says which, and what is allowed.
    """
    _check_address(settings.grpc_addr)
    _check_one_of("backend", settings.backend, ("auto", *plugins.names("backends")))
    _check_one_of("precision", settings.precision, ("", *get_args(Precision)))
    _check_one_of("index", settings.index, ("", *plugins.names("indexes")))
    if settings.otlp_endpoint:
        tracing.check_endpoint(settings.otlp_endpoint)
    _check_tls(settings)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise BadInput(
            f"grpc_addr (VITRINE_GRPC_ADDR) is {address!r}, it must be HOST:PORT such as 127.0.0.1:50051",
            field="grpc_addr",
        )


def _check_one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        allowed = ", ".join(filter(None, known))
        raise BadInput(f"{key} (VITRINE_{key.upper()}) is {value!r}, it must be one of {allowed}", field=key)


def _check_tls(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise BadInput("TLS takes both tls_cert and tls_key; one of them is missing", field="tls_cert")
    if settings.tls_client_ca and not settings.tls_cert:
        raise BadInput("tls_client_ca asks clients for certificates; that needs tls_cert and tls_key", field="tls_cert")
