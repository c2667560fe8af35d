"""`vitrine shadow`: a candidate answers a share of the live searches too, unseen by callers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import Annotated, Any

import typer

from vitrine.cli.output import Json, emit, stdout
from vitrine.errors import BadInput, Unavailable
from vitrine.home import find_home

app = typer.Typer(help="Try a candidate on live searches beside production.", no_args_is_help=True)

Why = Annotated[str, typer.Option("--why", help="The reason, kept in the history.")]


@app.command()
def start(
    ref: Annotated[str, typer.Argument(help="The candidate, NAME@8; built with: vitrine promote NAME@8 --build-only")],
    share: Annotated[float, typer.Option("--share", help="Of the live searches, above 0, up to 1.")] = 0.1,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Let the servers try a candidate; live answers stay what they are and wait for nothing."""
    from vitrine.promotion_shadow import start_shadow
    from vitrine.registry import open_registry

    home = find_home()
    shadow = start_shadow(open_registry(home), home, ref, share, why=why)

    def show() -> None:
        stdout.print(f"Servers try version {shadow.candidate.version} on {share:.0%} of the live searches from now on.")
        stdout.print("See what it finds: vitrine shadow report")

    emit({**asdict(shadow.candidate), "share": share}, as_json, show)


@app.command()
def stop(name: Annotated[str, typer.Argument(help="The model's name.")], why: Why = "", as_json: Json = False) -> None:
    """Let the servers stop trying a candidate."""
    from vitrine.promotion_shadow import stop_shadow
    from vitrine.registry import open_registry

    shadow = stop_shadow(open_registry(find_home()), name, why=why)
    tried = shadow.candidate.version
    emit(asdict(shadow.candidate), as_json, lambda: stdout.print(f"{name}@{tried} is not tried any more."))


@app.command()
def report(
    server: Annotated[str, typer.Option("--server", help="HTTP address of a server.")] = "http://127.0.0.1:3000",
    as_json: Json = False,
) -> None:
    """Show what a server's candidate finds beside production, and how long both take."""
    found = _read(f"{server.rstrip('/')}/v1/shadow", server)
    emit(found, as_json, lambda: _show(found))


def _read(address: str, server: str) -> dict[str, Any]:
    if not address.startswith(("http://", "https://")):
        raise BadInput(f"{server!r} is no HTTP address; give one such as http://127.0.0.1:3000", field="server")
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 -- http alone, see above
            value: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise Unavailable(
            f"{address} does not answer ({error}); is a server there? Start one: vitrine serve"
        ) from error
    return value


def _show(found: dict[str, Any]) -> None:
    if not found["running"]:
        stdout.print(f"Nothing is tried: {found['waiting_for']}", markup=False)
        return
    stdout.print(f"{found['candidate']} beside {found['live']}, on {found['share']:.0%} of the live searches")
    stdout.print(f"  compared {found['compared']}, dropped {found['dropped']}, failed {found['failed']}")
    if not found["compared"]:
        return
    stdout.print(
        f"  {found['overlap@10']:.3f} of the ten nearest are the same, {found['same_answer']:.1%} of the answers"
    )
    for side, took in found["latency_ms"].items():
        stdout.print(f"  {side}: p50 {took['p50']:.1f} ms, p99 {took['p99']:.1f} ms")
    stdout.print(
        "  live times include waiting for a batch; the candidate searches one at a time at a lower priority",
    )
