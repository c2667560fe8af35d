"""How a server is set up: one table of settings, from a file and from the environment, which wins.

    max_batch: 64                                 # vitrine.yaml, named by VITRINE_CONFIG or `vitrine serve --config`
    VITRINE_MAX_BATCH=64 bentoml serve …          # the same

`python -m services.config` (`vitrine serve --print-config`) prints what holds, with secrets masked.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from services.batching import BatchLimits
from services.config_checks import check
from services.logs import LEVELS, masked
from vitrine.errors import BadInput, NotFound, VitrineError

CONFIG = "VITRINE_CONFIG"
Value = str | int | float


@dataclass(frozen=True)
class Settings:
    """How this server runs; `TABLE` says what each field means."""

    model: str = ""
    grpc_addr: str = "127.0.0.1:50051"
    threads: int = 2
    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 512
    bulk_ms: float = 100.0
    max_calls: int = 2048
    max_message_mb: int = 64
    max_http_calls: int = 128
    http_timeout_s: float = 30.0
    max_held_mb: int = 512
    index: str = ""
    backend: str = "onnxruntime"
    precision: str = ""
    standby: str = "auto"
    grace_s: float = 10.0
    settle_s: float = 1.0
    log_level: str = "info"
    otlp_endpoint: str = ""
    trace_share: float = 1.0
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""

    @property
    def limits(self) -> BatchLimits:
        """The micro-batcher's part."""
        return BatchLimits(self.max_batch, self.max_wait_ms, self.queue, self.bulk_ms)


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        key: its name in a file.
        env: its name in the environment.
        what: what it decides.
        least, most: what a number may be.
        one_of: what a text may be; anything where empty.
        secret: printed as `***`.
    """

    key: str
    env: str
    what: str
    least: float = 0
    most: float = float("inf")
    one_of: tuple[str, ...] = ()
    secret: bool = False


TABLE = (
    Row("model", "VITRINE_MODEL", "the model to follow; empty for the only one with a production version"),
    Row("grpc_addr", "VITRINE_GRPC_ADDR", "HOST:PORT of the gRPC server; in a container 0.0.0.0:50051"),
    Row("threads", "VITRINE_THREADS", "threads of the engine, and as many that decode", least=1),
    Row("max_batch", "VITRINE_MAX_BATCH", "photos, or titles, in one run of the model", least=1),
    Row(
        "max_wait_ms",
        "VITRINE_MAX_WAIT_MS",
        "milliseconds that a batch waits for inputs that are being decoded; an eighth of a long batch's time if that is more; "
        "0 for never",
    ),
    Row("queue", "VITRINE_QUEUE", "photos and titles inside the server at a time; more are refused", least=1),
    Row(
        "bulk_ms",
        "VITRINE_BULK_MS",
        "milliseconds that bulk may lengthen a run of the model to; single calls wait for it",
    ),
    Row("max_calls", "VITRINE_MAX_CALLS", "gRPC calls inside the server at a time; more are refused", least=1),
    Row("max_message_mb", "VITRINE_MAX_MESSAGE_MB", "megabytes of a gRPC message", least=1, most=1024),
    Row("max_http_calls", "VITRINE_MAX_HTTP_CALLS", "HTTP requests inside the server at a time", least=1),
    Row(
        "http_timeout_s",
        "VITRINE_HTTP_TIMEOUT_S",
        "seconds that a request over HTTP may take, its body included",
        least=0.1,
        most=55,  # BentoML's own, services/bento.py, is 60 and says less
    ),
    Row(
        "max_held_mb",
        "VITRINE_MAX_HELD_MB",
        "megabytes that requests inside may hold together, over gRPC and HTTP; more are refused",
        least=1,
    ),
    Row("index", "VITRINE_INDEX", "the kind of index; empty for qdrant where qdrant_url is set, else exact"),
    Row(
        "backend",
        "VITRINE_BACKEND",
        "the engine that runs the model; auto measures what is ready and takes the quickest",
    ),
    Row(
        "precision",
        "VITRINE_PRECISION",
        "of the engine, where it agrees with the collection's; empty for the backend's own",
    ),
    Row(
        "standby",
        "VITRINE_STANDBY",
        "whether the version before stays loaded, so that a rollback needs no loading; auto where memory allows it",
        one_of=("auto", "on", "off"),
    ),
    Row("grace_s", "VITRINE_GRACE_S", "seconds that running requests get to end at shutdown"),
    Row("settle_s", "VITRINE_SETTLE_S", "seconds between saying NOT_SERVING and refusing requests at shutdown"),
    Row("log_level", "VITRINE_LOG_LEVEL", "how much is logged", one_of=LEVELS),
    Row("otlp_endpoint", "VITRINE_OTLP_ENDPOINT", "where traces go, http://HOST:4317; empty for nowhere"),
    Row("trace_share", "VITRINE_TRACE_SHARE", "share of the requests that begin a trace", most=1),
    Row("tls_cert", "VITRINE_TLS_CERT", "the gRPC server's certificate chain, a PEM file; empty for no TLS"),
    Row("tls_key", "VITRINE_TLS_KEY", "its private key, a PEM file"),
    Row("tls_client_ca", "VITRINE_TLS_CLIENT_CA", "who signs clients, a PEM file; then a client needs a certificate"),
    Row("home", "VITRINE_HOME", "registry, artifacts and collections; default .vitrine"),
    Row("registry_url", "VITRINE_REGISTRY_URL", "SQLAlchemy URL of the registry; default SQLite under home"),
    Row("artifacts_url", "VITRINE_ARTIFACTS_URL", "fsspec URL of the artifacts; default a folder under home"),
    Row("engines", "VITRINE_ENGINES", "built engines; default a folder under home"),
    Row("datasets", "VITRINE_DATASETS", "imported datasets; default data"),
    Row("qdrant_url", "QDRANT_URL", "a Qdrant server; empty for none"),
    Row("qdrant_grpc_port", "QDRANT_GRPC_PORT", "its gRPC port; default 6334"),
    Row("qdrant_api_key", "QDRANT_API_KEY", "its key", secret=True),
)
# Names of the same beginning that are no settings of the server: they are for commands, tests and clients.
_ELSEWHERE = frozenset(
    {CONFIG, "VITRINE_DATA", "VITRINE_ACTOR", "VITRINE_CRASH_AT", "VITRINE_CA", "VITRINE_CERT", "VITRINE_KEY"}
)
_RESERVED = "VITRINE_SERVE_"
_DEFAULTS: dict[str, Value] = {field.name: field.default for field in fields(Settings)}  # type: ignore[misc]


@dataclass(frozen=True)
class Config:
    """What holds: each value, where it came from, and the environment that says the same."""

    settings: Settings
    values: Mapping[str, Value]
    sources: Mapping[str, str]
    environ: Mapping[str, str]

    def shown(self) -> dict[str, Value]:
        """Every setting that has a value, secrets masked."""
        return {row.key: _shown(row, self.values[row.key]) for row in TABLE if row.key in self.values}

    def lines(self) -> list[str]:
        """YAML, one setting a line with its source; secrets masked."""
        told = {key: _yaml({key: value}) for key, value in self.shown().items()}
        width = max(map(len, told.values()))
        return [f"{line:<{width}}  # {self.sources[key]}" for key, line in told.items()]


def read(environ: Mapping[str, str]) -> Config:
    """Settings from the file that VITRINE_CONFIG names, and the environment, which wins.

    Raises:
        BadInput: a value of the wrong kind, or a name that is no setting; near ones are named.
        NotFound: there is no such file.
    """
    _check_names(environ)
    path = environ.get(CONFIG, "")
    given = _from_file(Path(path)) if path else {}
    values: dict[str, Value] = dict(_DEFAULTS)
    sources = dict.fromkeys(values, "default")
    if environ.get("BENTOML_CONTAINERIZED", "").lower() == "true":
        values["grpc_addr"], sources["grpc_addr"] = "0.0.0.0:50051", "container"
    for row in TABLE:
        if environ.get(row.env):
            values[row.key], sources[row.key] = _value(row, environ[row.env], row.env), f"environment: {row.env}"
        elif row.key in given:
            values[row.key], sources[row.key] = given[row.key], f"file: {path}"
    settings = Settings(**{key: values[key] for key in _DEFAULTS})  # type: ignore[arg-type]  # _value gave each its type
    check(settings)
    told = {row.env: str(values[row.key]) for row in TABLE if row.key in given and not environ.get(row.env)}
    return Config(settings, values, sources, {**environ, **told})


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings alone; see `read`."""
    return read(environ).settings


def _from_file(path: Path) -> dict[str, Value]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"{CONFIG} names {path}, which cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no YAML: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadInput(f"{path} must hold lines of KEY: VALUE, it holds a {type(found).__name__}")
    rows = {row.key: row for row in TABLE}
    for key in found.keys() - rows.keys():
        raise BadInput(f"{path}: {key} is no setting{_near(str(key), rows)}", field=str(key))
    return {key: _value(rows[key], value, f"{path}: {key}") for key, value in found.items() if value is not None}


def _value(row: Row, given: Any, name: str) -> Value:
    """`given` as the kind of its setting."""
    kind = type(_DEFAULTS.get(row.key, ""))
    if kind is str:
        if not isinstance(given, str):
            raise BadInput(f"{name} is {given!r}, it must be a text; put it in quotes", field=row.key)
        if row.one_of and given not in row.one_of:
            raise BadInput(f"{name} is {given!r}, it must be one of {', '.join(row.one_of)}", field=row.key)
        return given
    value = _number(given, whole=kind is int)
    if value is None:
        raise BadInput(f"{name} is {given!r}, it must be a {'whole ' * (kind is int)}number", field=row.key)
    if not value >= row.least:
        raise BadInput(f"{name} is {given}, it must be {row.least:g} or more", field=row.key)
    if value > row.most:
        raise BadInput(f"{name} is {given}, it must be at most {row.most:g}", field=row.key)
    return value


def _number(given: Any, *, whole: bool) -> int | float | None:
    """`given` as a number, None where it is none; `true` and, for whole numbers, 1.5 are none."""
    if isinstance(given, bool) or (whole and isinstance(given, float)):
        return None
    try:
        value = int(given) if whole else float(given)
    except (TypeError, ValueError):
        return None
    return None if value == float("inf") else value


def _check_names(environ: Mapping[str, str]) -> None:
    """Refuse what looks like a setting and is none; names that resemble nothing may be somebody else's."""
    known = {row.env: row for row in TABLE}
    for name in sorted(environ):
        if name in known or name in _ELSEWHERE or not name.startswith("VITRINE_"):
            continue
        near = _near(name, known)
        if name.startswith(_RESERVED) or near.startswith("; did you mean"):
            raise BadInput(f"{name} is no setting of the server{near}", field=name)


def _near(name: str, known: Mapping[str, Row]) -> str:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.8)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known: {', '.join(known)}"


def _shown(row: Row, value: Value) -> Value:
    if row.secret and value:
        return "***"
    return masked(value) if isinstance(value, str) else value


def _yaml(line: dict[str, Value]) -> str:
    return str(yaml.safe_dump(line, width=10**6)).rstrip("\n")


def main(arguments: list[str]) -> int:
    """Print what holds; with `--environ` as the JSON object of an environment, secrets included, for a launcher."""
    try:
        found = read(os.environ)
    except VitrineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(dict(found.environ)) if "--environ" in arguments else "\n".join(found.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
