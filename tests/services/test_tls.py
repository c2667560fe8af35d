"""TLS and mutual TLS of the gRPC port, with certificates made here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from services.config import Settings
from services.server import GrpcServer
from services.tls import credentials
from tests.services.conftest import Running
from vitrine.errors import BadInput, NotFound
from vitrine.v1 import embedding_pb2, embedding_pb2_grpc

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes certificates, is not here"
)


@dataclass(frozen=True)
class Certificate:
    chain: Path
    key: Path


def certify(folder: Path, name: str) -> Certificate:
    """A certificate for localhost that signs itself."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", made.key, "-out", made.chain],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def info(address: str, trusted: Certificate, own: Certificate | None = None) -> str:
    """The model that answers over TLS."""
    told = grpc.ssl_channel_credentials(
        trusted.chain.read_bytes(), own.key.read_bytes() if own else None, own.chain.read_bytes() if own else None
    )
    with grpc.secure_channel(address, told) as channel:
        answer = embedding_pb2_grpc.EmbeddingStub(channel).Info(embedding_pb2.InfoRequest(), timeout=5)
    return str(answer.version.model)


class Secured:
    """One more port over the same live version."""

    def __init__(self, server: Running, settings: Settings) -> None:
        self._running, self.grpc = server, GrpcServer(server.live, credentials=credentials(settings))

    def __enter__(self) -> str:
        self._running.do(self.grpc.start("127.0.0.1:0"))
        return f"127.0.0.1:{self.grpc.port}"

    def __exit__(self, *_: object) -> None:
        self._running.do(self.grpc.stop(1))


@needs_openssl
def test_a_client_that_trusts_the_certificate_is_answered_and_a_plain_one_is_not(
    server: Running, tmp_path: Path
) -> None:
    made = certify(tmp_path, "server")
    with Secured(server, Settings(tls_cert=str(made.chain), tls_key=str(made.key))) as address:
        assert info(address, made) == "tiny-search"
        with grpc.insecure_channel(address) as plain, pytest.raises(grpc.RpcError) as refused:
            embedding_pb2_grpc.EmbeddingStub(plain).Info(embedding_pb2.InfoRequest(), timeout=5)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@needs_openssl
def test_with_a_client_ca_a_client_must_show_a_certificate(server: Running, tmp_path: Path) -> None:
    made, client = certify(tmp_path, "server"), certify(tmp_path, "client")
    wanted = Settings(tls_cert=str(made.chain), tls_key=str(made.key), tls_client_ca=str(client.chain))
    with Secured(server, wanted) as address:
        assert info(address, made, client) == "tiny-search"
        with pytest.raises(grpc.RpcError) as refused:
            info(address, made)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_file_that_is_missing_or_no_pem_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "cert.pem"
    wrong.write_text("hello")

    with pytest.raises(NotFound, match=r"tls_key names .*none.key, which cannot be read"):
        credentials(Settings(tls_cert=str(wrong), tls_key=str(tmp_path / "none.key")))
    with pytest.raises(BadInput, match=r"tls_key names .*cert.pem, which is no PEM file"):
        credentials(Settings(tls_cert=str(wrong), tls_key=str(wrong)))
