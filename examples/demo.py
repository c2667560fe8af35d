"""The whole life of a model in one run: `make demo`.

Generated catalogues -> `dvc repro` -> versions of four models -> gated promotions -> live servers that are asked with
every held-back photo and title, over gRPC. Prints each stage with its time. In a terminal the last server stays up
until Ctrl-C; otherwise it is stopped at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from held_back import SEED, Answer, ask_photos, ask_titles, chance, drawn, report

from vitrine.client import VitrineClient
from vitrine.dataset import Dataset, load_dataset
from vitrine.errors import Unavailable
from vitrine.home import find_home
from vitrine.registry import open_registry

DOMAINS = ("homeware", "fashion")
BACKBONE, PAIR = "mini", "pair"
SHOWN = "homeware"
LOG = Path(".vitrine/serve.log")
STARTUP_S = 90.0


def main() -> None:
    """Run every step, then say what to do next."""
    os.environ.setdefault("BENTOML_HOME", str(Path(".vitrine/bentoml").resolve()))
    Path(os.environ["BENTOML_HOME"]).mkdir(parents=True, exist_ok=True)
    times: dict[str, float] = {}
    began = time.perf_counter()
    repro(times)
    step(times, "sync the registry", "vitrine", "models", "sync")
    step(times, "list the versions", "vitrine", "models", "ls")
    for domain in DOMAINS:
        promote_photos(times, domain)
        promote_words(times, domain)
    ask_words(times)
    photos: list[Answer] = []
    for domain in DOMAINS[::-1]:  # the one whose server stays up comes last
        with server(f"{domain}-search") as (http, grpc):
            photos += timed(times, f"ask {domain}-search with photos", grpc, domain, ask_photos)
            if domain != SHOWN:
                continue
            print("\n" + report("photos of both domains", photos, by_chance()))
            print("ten of them, drawn by seed:\n" + drawn(photos, lambda item: item.label))
            calls(times, grpc)
            summary(times, time.perf_counter() - began, http, grpc)
            if sys.stdout.isatty():
                print("\nThe server is up; Ctrl-C stops it.")
                wait_for_interrupt()


def repro(times: dict[str, float]) -> None:
    """Run the pipeline, timing each stage as DVC announces it."""
    print("== dvc repro", flush=True)
    began, current = time.perf_counter(), ""
    with subprocess.Popen(["dvc", "repro"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Running stage"):
                began, current = close(times, current, began), line.split("'")[1]
            print("  ", line, end="", flush=True)
    close(times, current, began)
    if process.returncode:
        sys.exit(process.returncode)


def close(times: dict[str, float], stage: str, began: float) -> float:
    """Note how long `stage` took; the next one begins now."""
    now = time.perf_counter()
    if stage:
        times[f"dvc: {stage}"] = now - began
    return now


def step(times: dict[str, float], what: str, *command: str) -> None:
    """Run one command of the `vitrine` command line as a user would."""
    print(f"\n== {what}: {' '.join(command)}", flush=True)
    began = time.perf_counter()
    done = subprocess.run(command, check=False)
    times[what] = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.returncode)


def promote_photos(times: dict[str, float], domain: str) -> None:
    """The pre-trained version first, so that the tuned one has an incumbent to beat; it is not put back over it."""
    model = f"{domain}-search"
    first, better = (version_of(f"{strategy}--{BACKBONE}--{domain}") for strategy in ("pretrained", "full"))
    models = open_registry(find_home()).state().models
    if model not in models or models[model].production is None:
        step(times, f"promote {model}@{first}", "vitrine", "promote", f"{model}@{first}")
    compared = ("compare", f"{model}@{better}", f"{model}@{first}", "--dataset", domain)
    step(times, f"{domain}: is the tuned one better?", "vitrine", *compared)
    step(times, f"promote {model}@{better}", "vitrine", "promote", f"{model}@{better}")


def promote_words(times: dict[str, float], domain: str) -> None:
    """The text-image pair is a model of its own."""
    ref = f"{domain}-text@{version_of(f'pretrained--{PAIR}--{domain}')}"
    step(times, f"promote {ref}", "vitrine", "promote", ref)


def ask_words(times: dict[str, float]) -> None:
    """Serve the text-image models one after the other and ask them with the titles of all held-back items."""
    words: list[Answer] = []
    for domain in DOMAINS[::-1]:
        with server(f"{domain}-text") as (_, grpc):
            words += timed(times, f"ask {domain}-text with titles", grpc, domain, ask_titles)
            if domain == SHOWN:
                title = random.Random(SEED).choice(load_dataset(Path("data") / domain).split("test")).title
                step(times, "search by words", "vitrine", "search", "--text", title, "--server", f"127.0.0.1:{grpc}")
    print("\n" + report("titles of both domains", words, by_chance()))
    print("ten of them, drawn by seed:\n" + drawn(words, lambda item: f'"{item.title}"'))


def timed(
    times: dict[str, float],
    what: str,
    grpc: int,
    domain: str,
    ask: Callable[[VitrineClient, Dataset], list[Answer]],
) -> list[Answer]:
    """Ask a live server with everything that a domain holds back."""
    began, dataset = time.perf_counter(), load_dataset(Path("data") / domain)
    with VitrineClient(f"127.0.0.1:{grpc}") as client:
        answers = ask(client, dataset)
    times[what] = time.perf_counter() - began
    print(f"\n== {what}\n{report(domain, answers, chance(dataset))}")
    return answers


def by_chance() -> float:
    """What chance finds in both domains, which hold back about as many photos."""
    return sum(chance(load_dataset(Path("data") / domain)) for domain in DOMAINS) / len(DOMAINS)


def version_of(cell: str) -> int:
    """The version number that a cell of the pipeline was registered under."""
    return int(json.loads(Path(f"work/registered/{cell}.json").read_text())["version"])


@contextmanager
def server(model: str) -> Iterator[tuple[int, int]]:
    """A running `vitrine serve` on free ports; its whole process group ends with the block."""
    http, grpc = free_port(3000), free_port(50051)
    command = ["vitrine", "serve", "--model", model, "--port", str(http), "--grpc-port", str(grpc)]
    print(f"\n== serve: {' '.join(command)}   (log: {LOG})", flush=True)
    with LOG.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_until_ready(process, grpc)
            yield http, grpc
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def wait_until_ready(process: subprocess.Popen[bytes], grpc: int) -> None:
    """Ask until the server answers."""
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with VitrineClient(f"127.0.0.1:{grpc}", timeout_s=2) as client:
                print(f"   ready: {client.info().version}")
                return
        except Unavailable:
            time.sleep(0.3)
    sys.exit(f"the server did not start; see {LOG}")


def calls(times: dict[str, float], grpc: int) -> None:
    """Embed, Classify and Search a photo that neither training nor the catalogue has seen."""
    dataset = load_dataset(Path("data") / SHOWN)
    item = random.Random(SEED).choice(dataset.split("test"))
    photo = str(dataset.folder / "images" / item.images[0])
    address = f"127.0.0.1:{grpc}"
    print(f"\nA held-back photo: {item.title} ({item.label})")
    for command in ("embed", "classify", "search"):
        step(times, command, "vitrine", command, photo, "--server", address)


def summary(times: dict[str, float], in_all: float, http: int, grpc: int) -> None:
    """What took how long, and what to do next."""
    print("\n== time per step")
    for what, seconds in times.items():
        print(f"   {seconds:7.1f} s  {what}")
    print(f"   {in_all:7.1f} s  in all, the starts of four servers included")
    print(f"""
Look at the report      report/index.html (open it in a browser)
Look at the page        http://127.0.0.1:{http}/
Serve again             vitrine serve --model {SHOWN}-search
Search by words         vitrine serve --model {SHOWN}-text, then vitrine search --text "blue mug"
Call it                 vitrine search PHOTO.jpg --server 127.0.0.1:{grpc}
Take the version back   vitrine rollback {SHOWN}-search
Your own photos         vitrine pipeline add shop --format image-folder --path PHOTOS && dvc repro
(`source .venv/bin/activate` puts vitrine and dvc on your path.)""")


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no free port on this machine")


def wait_for_interrupt() -> None:
    """Block until Ctrl-C."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("stopping")


if __name__ == "__main__":
    main()
