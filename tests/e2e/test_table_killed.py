"""An import of a table that is killed while it fetches photos, and the same command once more."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from tests.nasty_table import tiny_photo
from vitrine.dataset import load_dataset

PHOTOS = 60
AT_ONCE = 4


class Shop(http.server.BaseHTTPRequestHandler):
    """Answers at once for the first photos; the others wait until the server says go."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        number = int(self.path.strip("/").partition(".")[0])
        with self.server.lock:
            self.server.asked[number] += 1
        if number >= PHOTOS // 2:
            self.server.go.wait(60)
        body = tiny_photo(number)
        try:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the one who asked was killed
            self.close_connection = True


@pytest.fixture
def shop():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.asked, server.lock, server.go = Counter(), threading.Lock(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()


def start(folder):
    command = "import sys; from vitrine.cli import main; main()"
    arguments = ("data", "import", "table", "shop.csv", "--name", "shop", "-o", f"jobs={AT_ONCE}")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VITRINE_")}
    return subprocess.Popen([sys.executable, "-c", command, *arguments], cwd=folder, env=clean)


def fetched(folder):
    return [path for path in (folder / ".vitrine/downloads").glob("*/*") if not path.name.startswith(".")]


def test_an_import_killed_while_it_fetches_goes_on_with_what_is_missing(tmp_path, shop):
    rows = [f"i{number},{shop.url}/{number}.bmp,mug" for number in range(PHOTOS)]
    (tmp_path / "shop.csv").write_text("\n".join(["id,image,label", *rows]))
    first = start(tmp_path)
    deadline = time.monotonic() + 90
    while len(fetched(tmp_path)) < PHOTOS // 2 or shop.asked.total() < PHOTOS // 2 + AT_ONCE:
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "data/shop").exists()
    before = Counter(shop.asked)

    shop.go.set()
    assert start(tmp_path).wait(90) == 0
    assert len(load_dataset(tmp_path / "data/shop").items) == PHOTOS
    again = {number for number, times in shop.asked.items() if times > before[number] and number in before}
    assert again == set(range(PHOTOS // 2, PHOTOS // 2 + AT_ONCE))  # those that were on their way
    assert set(shop.asked) == set(range(PHOTOS))
