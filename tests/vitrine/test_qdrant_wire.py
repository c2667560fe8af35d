"""Our side of the wire to a Qdrant server: keys, timeouts, errors, repeats and deadlines, over a loopback double."""

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from grpc import StatusCode

from tests.indexed import COUNT, make, queries
from tests.qdrant_double import Double, Trouble, serving
from vitrine.errors import Overloaded, Unavailable
from vitrine.indexes import qdrant

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")

AWAY = (StatusCode.UNAVAILABLE, "node is going down", ())
BUSY = (StatusCode.RESOURCE_EXHAUSTED, "rate limit", (("retry-after", "1"),))
PATIENT = (StatusCode.RESOURCE_EXHAUSTED, "rate limit", (("retry-after", "3600"),))
BROKEN = (StatusCode.INVALID_ARGUMENT, "Wrong input: vector name", ())


@pytest.fixture
def collection(tmp_path):
    return make(tmp_path / "c")


@contextmanager
def built(collection, **settings):
    """An open index over a server that runs into trouble from now on."""
    trouble = Trouble()
    with serving(Double(COUNT), trouble) as where:
        qdrant.build(collection, where)
        index = qdrant.open(collection, where | settings)
        trouble.calls = 0
        yield index, trouble
        index.close()


def test_a_search_is_repeated_while_the_server_is_away(collection):
    with built(collection) as (index, trouble):
        trouble.errors = [AWAY, AWAY]
        assert len(index.search(queries(1), 3)[0]) == 3
        assert trouble.calls == 3


def test_a_search_is_not_repeated_when_it_is_wrong(collection):
    with built(collection) as (index, trouble):
        trouble.errors = [BROKEN]
        with pytest.raises(Unavailable, match="Wrong input: vector name"):
            index.search(queries(1), 3)
        assert trouble.calls == 1


def test_repeating_ends_with_the_deadline_and_says_what_the_server_said(collection):
    with built(collection, deadline_s=0.3) as (index, trouble):
        trouble.errors = [AWAY] * 1000
        with pytest.raises(Unavailable, match=r"did not answer as it should \(node is going down\)"):
            index.search(queries(1), 3)
        assert 1 < trouble.calls < 1000


def test_the_pause_that_a_busy_server_asks_for_is_kept(collection):
    with built(collection) as (index, trouble):
        trouble.errors = [BUSY]
        began = time.monotonic()
        assert len(index.search(queries(1), 3)[0]) == 3
        assert time.monotonic() - began >= 1


def test_a_pause_beyond_the_deadline_is_handed_on(collection):
    with built(collection) as (index, trouble):
        trouble.errors = [PATIENT]
        with pytest.raises(Overloaded, match="has too much to do; try again") as caught:
            index.search(queries(1), 3)
        assert caught.value.retry_after_s == 3600
        assert trouble.calls == 1


def test_the_key_of_the_settings_is_sent_and_a_wrong_one_is_named_as_the_cause(collection):
    with serving(Double(COUNT), Trouble(key="secret")) as where:
        qdrant.build(collection, where | {"api_key": "secret"})
        with pytest.raises(Unavailable, match=r"refused the key .*set QDRANT_API_KEY") as caught:
            qdrant.open(collection, where | {"api_key": "guess"})
        assert "guess" not in str(caught.value)


def test_the_key_of_the_environment_is_sent(collection, monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    with serving(Double(COUNT), Trouble(key="secret")) as where:
        qdrant.build(collection, where)


def test_an_upload_goes_through_a_server_that_is_away_now_and_then(collection):
    trouble = Trouble(*[AWAY] * 3)
    with serving(Double(COUNT), trouble) as where:
        qdrant.build(collection, where)
        assert qdrant.open(collection, where).count() == COUNT


def test_rows_are_written_only_where_no_later_change_has_been(collection):
    double = Double(COUNT)
    with serving(double) as where:
        qdrant.build(collection, where)
    (older,) = {request.update_filter.must[0].field.range.lte for request in double.of("UpsertPoints")}
    assert older == collection.info.seq


@pytest.mark.parametrize("grpc", [True, False])
def test_a_server_that_is_not_there_is_unavailable(collection, grpc):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"url": f"http://127.0.0.1:{port}", "grpc_port": port, "prefer_grpc": grpc, "timeout_s": 1}
    with pytest.raises(Unavailable, match="check that the server runs and QDRANT_URL"):
        qdrant.build(collection, options)


@pytest.mark.parametrize("grpc", [True, False])
def test_a_server_that_never_answers_is_unavailable_in_time(collection, grpc):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        options = {"url": f"http://127.0.0.1:{port}", "grpc_port": port, "prefer_grpc": grpc, "timeout_s": 1}
        began = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer as it should"):
            qdrant.open(collection, options)
        assert time.monotonic() - began < 5


@contextmanager
def answering(status, headers=()):
    """A server on the loopback that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"status": {"error": "not for you"}}).encode()
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body))), ("Content-Type", "application/json")):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"url": f"http://127.0.0.1:{server.server_port}", "prefer_grpc": False, "timeout_s": 2, "deadline_s": 0.5}
        server.shutdown()


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_error_of_the_server_is_unavailable_with_its_words(collection, status):
    with answering(status) as options, pytest.raises(Unavailable, match=f"{status}.*not for you"):
        qdrant.open(collection, options)


def test_a_server_that_asks_for_patience_is_overloaded(collection):
    with answering(429, [("Retry-After", "7")]) as options, pytest.raises(Overloaded) as caught:
        qdrant.open(collection, options)
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_over_http_is_named_as_the_cause(collection, status):
    with answering(status) as options, pytest.raises(Unavailable, match=r"refused the key .*set QDRANT_API_KEY"):
        qdrant.open(collection, options)


def test_too_many_requests_without_a_time_are_overloaded(collection):
    with answering(429) as options, pytest.raises(Overloaded, match="too much to do"):
        qdrant.open(collection, options)
