"""The bento: one class service whose start-up hook runs the gRPC server on BentoML's own event loop.

Two sources of a version, settled at import time because BentoML reads class attributes then:
- a registry (the checkout's `.vitrine`, or VITRINE_HOME / VITRINE_REGISTRY_URL): its production is served and followed;
- a pin: the version that a built bento carries. Without a registry it answers Embed and Classify.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from functools import cache
from pathlib import Path

import bentoml
from bentoml.models import BentoModel

from services import config, logs, memory, store, tls, tracing, wiring
from services.admission import Admission, HeldBytes
from services.catalogue import CatalogueServicer
from services.drain import Drain
from services.edge import Edge
from services.facets import Facets
from services.follower import Follower
from services.http import Api
from services.keeper import Keeper
from services.lanes import Pools
from services.pictures import Pictures
from services.priority import make_grpc_threads
from services.server import GrpcServer, Limits, searches
from services.shadow import Shadowing
from services.snapshot import Live
from vitrine.errors import VitrineError
from vitrine.home import Home, find_home
from vitrine.pulse import Pulse
from vitrine.registry import open_registry
from vitrine.v1 import catalogue_pb2

log = logging.getLogger("vitrine.serving")

_BENTO_YAML = Path(__file__).resolve().parents[2] / "bento.yaml"
_BUILT = _BENTO_YAML.is_file()


def read_config() -> config.Config:
    """What holds, or a sentence and the end of the process: settings are wrong for every worker alike."""
    try:
        found = config.read(os.environ)
        tls.credentials(found.settings)
    except VitrineError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from error
    os.environ.update(found.environ)  # what the file says holds for every reader
    return found


CONFIG = read_config()


def followed_home() -> Home | None:
    """The registry to follow: a built bento follows only one that the settings name."""
    named = os.environ.get("VITRINE_HOME") or os.environ.get("VITRINE_REGISTRY_URL")
    return None if _BUILT and not named else find_home()


def find_pin() -> store.Pin | None:
    """The version that this bento carries; in a checkout, the production version, put into the store."""
    try:
        if _BUILT:
            return store.pinned_in(_BENTO_YAML)
        home = find_home()
        if home.registry_url.startswith("sqlite:///") and not Path(home.registry_url[10:]).is_file():
            return None
        registry = open_registry(home)
        target = wiring.choose(registry.state(), CONFIG.settings.model)
        if isinstance(target, str):
            return None
        bundle = registry.open(f"{target.model}@{target.production.version}")
        return store.ensure(target.model, target.production.version, bundle)
    except VitrineError as error:
        log.warning("no version is pinned: %s", error)
        return None


# glibc would keep what a large photo took: from this size on, memory comes from the system and goes back to it.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
PIN = find_pin()
api = Api()
held = HeldBytes(CONFIG.settings.max_held_mb << 20)
edge = Edge(api.app(), Admission(CONFIG.settings.max_http_calls, "HTTP calls", held), CONFIG.settings.http_timeout_s)


@bentoml.asgi_app(edge, path="/", name="web")
@bentoml.service(
    name="vitrine",
    workers=1,
    traffic={"timeout": 60},
    envs=[{"name": name, "value": value} for name, value in _MEMORY.items()],
)
class Vitrine:
    """gRPC on VITRINE_GRPC_ADDR; the search page and JSON on BentoML's HTTP port."""

    if PIN is not None:
        model = BentoModel(PIN.tag)  # the bento carries it

    def __init__(self) -> None:
        self.settings = CONFIG.settings
        logs.configure(self.settings.log_level)
        log.info("settings", extra={"settings": CONFIG.shown()})
        make_grpc_threads()  # before traces or Qdrant use gRPC
        tracing.configure(self.settings.otlp_endpoint, self.settings.trace_share)
        self.pools = Pools.make(self.settings.threads)
        self.live = Live(self.pools, self.settings.limits)
        self.server = GrpcServer(
            self.live,
            limits=Limits(self.settings.max_calls, self.settings.max_message_mb << 20),
            held=held,
            credentials=tls.credentials(self.settings),
        )
        self.drain = Drain(self.server.leave, self._end_requests, self.settings.settle_s)
        self.follower: Follower | None = None
        api.embedding, api.searching = self.server.embedding, self.server.searching
        api.facets = Facets(self.live)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def a_start(self) -> None:
        """Load what is to be served, then listen."""
        self.drain.watch()
        memory.spare_the_collector()
        home = followed_home()
        keeper = Keeper(home, self.pools.model) if home is not None else None
        self.server.add(
            catalogue_pb2.DESCRIPTOR.services_by_name["Catalogue"], CatalogueServicer(self.live, keeper), ready=searches
        )
        if home is not None and keeper is not None:
            api.pictures = Pictures(self.live, keeper)
            self.follower = self._follow(home, keeper)
            await self.follower.start()
        else:
            await self._serve_pinned()
        await self.server.start(self.settings.grpc_addr)
        if self.live.snapshot is None:
            log.warning("started, not ready", extra={"waiting_for": self.live.waiting_for})

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def z_stop(self) -> None:
        """Refuse newcomers, let running requests end, close everything."""
        await self.drain.finish()
        await self._end_requests()  # a signal during start-up came before there was anything to stop
        if self.follower is not None:
            await self.follower.stop()
        if api.pictures is not None:
            api.pictures.close()
        await self.live.swap(None)
        self.pools.close()
        await asyncio.to_thread(tracing.close)

    async def __is_ready__(self) -> bool:
        """What gRPC health says: a version is live and the server is not ending."""
        return self.server.ready

    async def _end_requests(self) -> None:
        grace_s = self.settings.grace_s
        await asyncio.gather(self.server.stop(grace_s), edge.stop(grace_s))

    def _follow(self, home: Home, keeper: Keeper) -> Follower:
        # Opened at the first look, not here: a registry that is down now must not keep the server from starting.
        registry = cache(lambda: open_registry(home))
        shadow = Shadowing(
            self.live,
            lambda wanted: wiring.load_candidate(registry(), home, wanted, self.settings),
            refresh=keeper.refresh_here,
            busy=self.live.busy,
        )
        self.live.observe, api.shadow = shadow.offer, shadow
        return Follower(
            self.live,
            look=lambda: wiring.choose(registry().state(), self.settings.model),
            load=lambda target: wiring.load_live(registry(), home, target, self.settings),
            changed=self.server.report_health,
            refresh=keeper.refresh,
            may_stand_by=memory.may_stand_by(self.settings.standby),
            shadow=shadow,
            pulse=Pulse(home.registry_url),
        )

    async def _serve_pinned(self) -> None:
        if PIN is None:
            self.live.waiting_for = (
                "this bento carries no version; build it where one is promoted, or start it with VITRINE_HOME"
            )
            return
        try:
            bundle = store.open_pinned(PIN)
            engines = find_home().engines  # built on this machine; the bento carries none
            await self.live.swap(wiring.load_pinned(PIN.model, PIN.version, bundle, self.settings, engines))
        except VitrineError as error:
            self.live.waiting_for = str(error)
