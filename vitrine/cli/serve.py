"""`vitrine serve`: thin over `bentoml serve`."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from vitrine.cli.output import stderr
from vitrine.errors import NotFound, Unavailable

app = typer.Typer()

_SERVICE = "services.bento:Vitrine"
_CONFIG = "services.config"
_GRPC_PORT = 50051


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="HTTP: the search page, JSON, /metrics, /readyz.")] = 3000,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC; 50051 unless it is configured.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    model: Annotated[str, typer.Option(help="Model to serve; the only one with a production version.")] = "",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; the environment wins over it.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings that hold, and end.")
    ] = False,
) -> None:
    """Serve the production version; follows every promotion and rollback without a restart."""
    if not Path("services/bento.py").is_file():
        raise NotFound(
            f"there is no services/bento.py in {Path.cwd()}; run this in the project's folder, "
            "or serve a built bento: bentoml serve TAG"
        )
    environment = os.environ | {
        "BENTOML_DO_NOT_TRACK": "True",
        **({"VITRINE_CONFIG": str(config)} if config else {}),
        **({"VITRINE_MODEL": model} if model else {}),
        **_grpc_address(host, grpc_port),
    }
    sys.stdout.flush()
    if print_config:
        os.execve(sys.executable, [sys.executable, "-m", _CONFIG], environment)  # noqa: S606 -- it becomes the printer
    environment = _with_file(environment)
    _check_free(f"{host}:{port}", "--port")
    _check_free(environment.get("VITRINE_GRPC_ADDR") or f"127.0.0.1:{_GRPC_PORT}", "--grpc-port")
    _say_what_is_served(environment)
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", host, "--port", str(port)]
    os.execve(sys.executable, command + _tls(environment), environment)  # noqa: S606 -- it becomes the server, signals included


def _grpc_address(host: str, grpc_port: int | None) -> dict[str, str]:
    """What the options say of the address; nothing where they say nothing, so that the settings hold."""
    if grpc_port is None and host == "127.0.0.1":
        return {}
    return {"VITRINE_GRPC_ADDR": f"{host}:{grpc_port or _GRPC_PORT}"}


def _with_file(environment: dict[str, str]) -> dict[str, str]:
    """The environment with the settings of a file in it, checked."""
    told = subprocess.run(
        [sys.executable, "-m", _CONFIG, "--environ"], env=environment, stdout=subprocess.PIPE, check=False
    )
    if told.returncode:
        raise typer.Exit(told.returncode)  # it has said why
    return dict(json.loads(told.stdout))


def _check_free(address: str, option: str) -> None:
    """Two servers on one port would end in a traceback, or share its calls."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, *_, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do after a restart
            probe.bind(place)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        remedy = (
            f"end the server that is there, or choose another {option}" if taken else "give this machine's own address"
        )
        raise Unavailable(f"cannot listen on {address}: {error.strerror}; {remedy}") from error


def _tls(environment: dict[str, str]) -> list[str]:
    """HTTP gets the certificate that gRPC has."""
    files = {"--ssl-certfile": "VITRINE_TLS_CERT", "--ssl-keyfile": "VITRINE_TLS_KEY"}
    return [part for option, name in files.items() if environment.get(name) for part in (option, environment[name])]


def _say_what_is_served(environment: dict[str, str]) -> None:
    from vitrine.home import find_home
    from vitrine.registry import open_registry

    state, model = open_registry(find_home(environment)).state(), environment.get("VITRINE_MODEL", "")
    if model:
        state.model(model)  # a typo is an error now, not a server that waits for ever
    live = {name: found.production for name, found in state.models.items() if found.production}
    wanted = {name: live[name] for name in ([model] if model else live) if name in live}
    if not wanted:
        stderr.print("Nothing is promoted yet: the server starts, waits and is ready after `vitrine promote NAME@N`.")
    elif len(wanted) > 1:
        stderr.print(f"Several models are promoted ({', '.join(sorted(wanted))}): choose one with --model NAME.")
    else:
        name, production = next(iter(wanted.items()))
        assert production is not None
        stderr.print(f"Serving {name}@{production.version} with collection {production.collection}.")
