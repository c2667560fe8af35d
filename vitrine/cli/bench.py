"""`vitrine bench serve`: how much load a running server takes, how quickly it answers, what an answer costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrine.cli.output import Json, emit, stdout, table
from vitrine.progress import bar

if TYPE_CHECKING:
    from vitrine.bench.session import Result, Test

app = typer.Typer(help="Measure a running server.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """One command so far, but `bench serve` is its name."""


@app.command()
def serve(
    server: Annotated[str, typer.Option("--server", help="HOST:PORT of its gRPC.")] = "localhost:50051",
    method: Annotated[str, typer.Option("--method", help="embed, classify or search.")] = "embed",
    photos: Annotated[
        Path | None, typer.Option("--photos", help="A folder of photos to send; made ones of 400x400 without it.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.01, help="Requests a second; the highest sustained one without it.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Of each run.")] = 10.0,
    p99_ms: Annotated[float, typer.Option("--p99-ms", help="The slowest p99 that counts as sustained.")] = 500.0,
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=1, help="Of the sustained rate: where latency is taken.")
    ] = 0.7,
    connections: Annotated[int, typer.Option("--connections", min=1, help="HTTP/2 connections to spread over.")] = 8,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Deadline of a request.")] = 5.0,
    pid: Annotated[
        int | None, typer.Option("--pid", help="The server's process, for its CPU; found by its port on this machine.")
    ] = None,
    params: Annotated[Path, typer.Option("--params", help="Where `prices` stand.")] = Path("params.yaml"),
    as_json: Json = False,
) -> None:
    """Offer load as independent callers do, and say what is sustained, how quickly, at what cost.

    Requests leave at their own times, however slowly answers come, and a latency begins when its request was due.
    """
    from vitrine.bench import asking
    from vitrine.bench.processes import listening_on
    from vitrine.bench.saturation import Goal
    from vitrine.bench.session import Test, run_test
    from vitrine.params import read_params

    sent = asking.read_photos(photos) if photos else asking.made_photos(64)
    test = Test(
        server=server,
        method=method,
        bodies=asking.requests(method, sent),
        rate=rate,
        seconds=seconds,
        share=share,
        connections=connections,
        timeout_s=timeout_s,
        goal=Goal(p99_ms=p99_ms),
        pid=pid or listening_on(server),
    )
    result = run_test(test, bar)
    cost = _cost(result, read_params(params).get("prices"))
    emit(
        {"server": server, "method": method, **result.as_json(), "cost_per_million": cost},
        as_json,
        lambda: _show(test, result, cost),
    )


def _cost(result: Result, prices: object) -> dict[str, object] | None:
    """What a million answers cost at the price of this machine, were it kept at the measured rate."""
    if not isinstance(prices, dict) or "device_hour" not in prices or not result.measured.answered:
        return None
    hours = 1e6 / result.measured.answered / 3600
    return {"amount": float(prices["device_hour"]) * hours, "currency": str(prices.get("currency", ""))}


def _show(test: Test, result: Result, cost: dict[str, object] | None) -> None:
    from vitrine.bench.report import COLUMNS, bars

    table(COLUMNS, [run.row() for run in result.runs])
    for line in bars(result.measured):
        stdout.print(line, markup=False, highlight=False)
    if result.saturation is not None:
        stdout.print(
            f"Sustained: {result.saturation:.1f} {test.method} requests a second with p99 within "
            f"{test.goal.p99_ms:g} ms and no failure. The last line was taken at {test.share:.0%} of it."
        )
    if result.measured.late_ms > 20:
        stdout.print(
            f"The generator itself fell {result.measured.late_ms:.0f} ms behind: give it a machine of its own, or offer less."
        )
    if test.pid is None:
        stdout.print("The server's process is not on this machine or not yours: no CPU figures (--pid names it).")
    if cost is not None:
        stdout.print(f"A million answers at this rate: {cost['amount']:.2f} {cost['currency']} (params.yaml: prices).")
