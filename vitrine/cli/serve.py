"""`vitrine serve`: thin over `bentoml serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vitrine.cli.output import stderr
from vitrine.errors import NotFound

app = typer.Typer()

_SERVICE = "services.bento:Vitrine"


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="HTTP: the search page, JSON, /metrics, /readyz.")] = 3000,
    grpc_port: Annotated[int, typer.Option(help="gRPC.")] = 50051,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    model: Annotated[str, typer.Option(help="Model to serve; the only one with a production version.")] = "",
) -> None:
    """Serve the production version; follows every promotion and rollback without a restart."""
    if not Path("services/bento.py").is_file():
        raise NotFound(
            f"there is no services/bento.py in {Path.cwd()}; run this in the project's folder, "
            "or serve a built bento: bentoml serve TAG"
        )
    _say_what_is_served(model)
    environment = os.environ | {
        "BENTOML_DO_NOT_TRACK": "True",
        "VITRINE_GRPC_ADDR": f"{host}:{grpc_port}",
        **({"VITRINE_MODEL": model} if model else {}),
    }
    command = [sys.executable, "-m", "bentoml", "serve", _SERVICE, "--host", host, "--port", str(port)]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 -- it becomes the server, signals included


def _say_what_is_served(model: str) -> None:
    from vitrine.home import find_home
    from vitrine.registry import open_registry

    state = open_registry(find_home()).state()
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
