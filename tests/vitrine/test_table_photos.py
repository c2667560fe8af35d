"""Photos of a table over real connections: a loopback server that is slow, ill, truncated or fine."""

import http.server
import io
import threading
import time
from collections import Counter

import pytest
from PIL import Image

from vitrine.datasets._table_photos import Downloads, Limits, resolve
from vitrine.errors import Unavailable
from vitrine.progress import quiet

QUICK = Limits(jobs=8, timeout_s=0.5, tries=3, backoff_s=0.01)


def photo(seed=0, size=(16, 12)):
    out = io.BytesIO()
    Image.new("RGB", size, (seed * 40 % 256, 90, 30)).save(out, "PNG")
    return out.getvalue()


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(headers.pop("length", len(body))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        self.server.heads += 1
        self.answer(200)

    def do_GET(self):
        server, name = self.server, self.path.strip("/")
        with server.lock:
            server.asked[name] += 1
            server.now += 1
            server.most = max(server.most, server.now)
            turn = server.asked[name]
        try:
            self.serve(name.split("?")[0], turn)
        finally:
            with server.lock:
                server.now -= 1

    def serve(self, name, turn):
        if name == "gone.png":
            self.answer(404, b"no")
        elif name == "ill.png":
            self.answer(500) if turn == 1 else self.answer(200, photo(1))
        elif name == "always-ill.png":
            self.answer(503)
        elif name == "busy.png":
            self.answer(429, Retry_After="1") if turn == 1 else self.answer(200, photo(2))
        elif name == "forbidden.png":
            self.answer(403)
        elif name == "moved.png":
            self.answer(302, Location="/good.png")
        elif name == "page.png":
            self.answer(200, b"<!DOCTYPE html><title>Sorry</title>")
        elif name == "torn.png":
            self.answer(200, photo(3)[:40], length=400)
            self.close_connection = True
        elif name == "huge.png":
            self.answer(200, photo(4) + bytes(300_000))
        elif name == "silent.png":
            time.sleep(1.2)
            self.answer(200, photo(5))
        elif name.startswith("slow"):
            time.sleep(0.05)
            self.answer(200, photo(6))
        else:
            self.answer(200, photo(7))


@pytest.fixture
def shop():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.asked, server.lock, server.now, server.most, server.heads = Counter(), threading.Lock(), 0, 0, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def fetch(folder, *addresses, limits=QUICK, refresh=False):
    downloads = Downloads(folder, limits, refresh=refresh)
    downloads.fetch(addresses, quiet)
    return downloads


def test_a_photo_arrives_with_its_bytes_and_without_a_head_request(shop, tmp_path):
    address = f"{shop.url}/good.png"
    found = fetch(tmp_path, address).located("good", address)
    assert found.path.read_bytes() == photo(7)
    assert (found.address, found.trouble, shop.heads) == ("good", "", 0)


@pytest.mark.parametrize(
    ("name", "reason", "asked"),
    [
        ("gone.png", "404, there is nothing at this address", 1),
        ("forbidden.png", "HTTP 403", 1),
        ("always-ill.png", "HTTP 503", 3),
        ("page.png", "the answer is no photo but a web page", 1),
        ("torn.png", "the answer broke off", 3),
        ("silent.png", "no answer within 0.5 s", 3),
    ],
)
def test_a_dead_link_has_its_reason_and_only_passing_troubles_are_tried_again(shop, tmp_path, name, reason, asked):
    address = f"{shop.url}/{name}"
    downloads = fetch(tmp_path, address)
    assert downloads.dead == {address: reason}
    assert downloads.located(name, address).path is None
    assert shop.asked[name] == asked
    assert not downloads.place(address).exists()


def test_a_server_that_recovers_gives_its_photo(shop, tmp_path):
    assert fetch(tmp_path, f"{shop.url}/ill.png").dead == {}
    assert shop.asked["ill.png"] == 2


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(shop, tmp_path):
    began = time.monotonic()
    assert fetch(tmp_path, f"{shop.url}/busy.png").dead == {}
    assert time.monotonic() - began >= 1


def test_progress_counts_the_dead_links(shop, tmp_path):
    seen = []

    def track(things, what, total=None):
        for thing in things:
            seen.append((what(), total))
            yield thing
        seen.append((what(), total))

    Downloads(tmp_path, QUICK).fetch([f"{shop.url}/{name}.png" for name in ("gone", "good", "forbidden")], track)
    assert seen == [
        ("fetching photos", 3),
        ("fetching photos, 1 dead links", 3),
        ("fetching photos, 1 dead links", 3),
        ("fetching photos, 2 dead links", 3),
    ]


def test_a_redirect_is_followed(shop, tmp_path):
    address = f"{shop.url}/moved.png"
    assert fetch(tmp_path, address).place(address).read_bytes() == photo(7)


def test_a_photo_beyond_the_limit_is_given_up(shop, tmp_path):
    address = f"{shop.url}/huge.png"
    limits = Limits(max_bytes=100_000)
    assert fetch(tmp_path, address, limits=limits).dead == {address: "it is larger than 100000 bytes"}


def test_a_second_run_fetches_only_what_is_missing(shop, tmp_path):
    good, ill = f"{shop.url}/good.png", f"{shop.url}/gone.png"
    fetch(tmp_path, good, ill)
    fetch(tmp_path, good, ill)
    assert (shop.asked["good.png"], shop.asked["gone.png"]) == (1, 2)
    fetch(tmp_path, good, refresh=True)
    assert shop.asked["good.png"] == 2


def test_one_host_is_asked_for_a_few_photos_at_a_time(shop, tmp_path):
    addresses = [f"{shop.url}/slow{number}.png" for number in range(20)]
    fetch(tmp_path, *addresses, limits=Limits(jobs=16, per_host=3))
    assert shop.most == 3


def test_a_host_that_is_not_there_is_not_asked_for_ever(tmp_path):
    addresses = [f"http://127.0.0.1:1/{number}.png" for number in range(60)]
    downloads = fetch(tmp_path, *addresses)
    reasons = Counter(downloads.dead.values())
    assert sum(reasons.values()) == 60
    assert reasons["127.0.0.1:1 did not answer 20 times in a row and was not asked again"] >= 30
    assert "the host cannot be reached" in reasons


def test_photos_on_s3_without_its_library_are_one_sentence(tmp_path):
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(
            Unavailable, match=r"photos at s3:// need a library .* pip install 'vitrine-embeddings\[s3\]'"
        ):
            fetch(tmp_path, "s3://bucket/a.png")
    else:
        pytest.skip("s3fs is installed")


def test_an_unknown_kind_of_address_is_dead_and_says_what_is_possible(tmp_path, shop):
    downloads = fetch(tmp_path, "gopher://old/a.png", f"{shop.url}/good.png")
    assert downloads.dead == {"gopher://old/a.png": "gopher:// cannot be fetched; use http, https, s3 or files"}


@pytest.mark.parametrize("address", ["http://[old/a.png", "http://127.0.0.1:99999/a.png", "https:///a.png"])
def test_what_is_no_address_is_dead_and_no_other_photo_with_it(tmp_path, shop, address):
    downloads = fetch(tmp_path, address, f"{shop.url}/good.png")
    assert list(downloads.dead) == [address]
    assert downloads.dead[address]


def test_any_file_system_that_fsspec_knows_is_read_alike(tmp_path):
    import fsspec

    fsspec.filesystem("memory").pipe("/shelf/a.png", photo(1))
    downloads = fetch(tmp_path, "memory://shelf/a.png", "memory://shelf/b.png")
    assert downloads.place("memory://shelf/a.png").read_bytes() == photo(1)
    assert downloads.dead == {"memory://shelf/b.png": "404, there is nothing at this address"}


@pytest.mark.parametrize(
    ("address", "base", "expected"),
    [
        ("a/b.jpg", "/shop", "/shop/a/b.jpg"),
        ("a\\b.jpg", "/shop", "/shop/a/b.jpg"),
        ("/abs/b.jpg", "/shop", "/abs/b.jpg"),
        ("file:///abs/my%20b.jpg", "/shop", "/abs/my b.jpg"),
        ("my b.jpg", "https://cdn.shop.example/img/", "https://cdn.shop.example/img/my%20b.jpg"),
        ("HTTPS://cdn.shop.example/B.jpg", "/shop", "https://cdn.shop.example/B.jpg"),
        ("b.jpg", "s3://bucket/photos", "s3://bucket/photos/b.jpg"),
    ],
)
def test_addresses_are_taken_from_the_base_unless_they_are_whole(address, base, expected):
    assert resolve(address, base) == expected
