"""Photos by address: files beside the table, HTTP(S), S3 and whatever else fsspec reaches; fetched once.

A fetched photo lies in the downloads folder under the sha256 of its address. An import that was killed
therefore goes on where it stopped, and a repaired table fetches only what is new.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from PIL import Image

from vitrine.conclusion import Located
from vitrine.errors import Unavailable
from vitrine.files import sha256_bytes, write_atomic
from vitrine.images import FORMATS, MAX_BYTES
from vitrine.progress import Track

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_BATCH = 1024  # addresses handed to the threads at a time
_PIECE = 1 << 16
_SILENT = 20  # times in a row that a host may not answer before it is left alone
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Limits:
    """How hard to try.

    Attributes:
        jobs: photos fetched at once; of one host at most `per_host`.
        timeout_s: of a connection, and between two pieces of an answer.
        tries: in all, for answers that may get better (429, 5xx, a broken or silent connection).
        backoff_s: pause before the second try, doubled before each further one.
        max_bytes: larger photos are not read to their end.
    """

    jobs: int = 16
    per_host: int = 8
    timeout_s: float = 20.0
    tries: int = 3
    backoff_s: float = 0.5
    max_bytes: int = MAX_BYTES


@dataclass
class _Failed(Exception):
    """One try that brought no photo.

    Attributes:
        silent: the host gave no answer at all.
        wait_s: how long the host asked to be left alone.
    """

    reason: str
    again: bool = False
    silent: bool = False
    wait_s: float = 0.0


def resolve(address: str, base: str) -> str:
    """The full address of a photo: absolute as it is, else below `base`, a folder or an address itself."""
    if _SCHEME.match(address):
        scheme, _, rest = address.partition("://")
        return f"/{unquote(rest.partition('/')[2])}" if scheme.lower() == "file" else f"{scheme.lower()}://{rest}"
    if _SCHEME.match(base):
        return f"{base.rstrip('/')}/{quote(address.lstrip('/'), safe='/%?=&')}"
    return str(Path(base) / address.replace("\\", "/"))


def is_remote(address: str) -> bool:
    """Whether a resolved address has to be fetched."""
    return _SCHEME.match(address) is not None


def unknown_schemes(addresses: Iterable[str]) -> frozenset[str]:
    """Look for the library behind each scheme once, before anything is fetched; the schemes that nothing can fetch.

    Raises:
        Unavailable: a library is missing; the message says how to get it.
    """
    import fsspec

    unknown: set[str] = set()
    for scheme in sorted({_scheme(address) for address in addresses}):
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            extra = "pip install 'vitrine-embeddings[s3]'" if scheme in {"s3", "s3a"} else str(error)
            raise Unavailable(f"photos at {scheme}:// need a library that is not installed; {extra}") from error
        except ValueError:
            unknown.add(scheme)
    return frozenset(unknown)


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _host(address: str) -> str:
    """Whom an address asks; "" where it is none, and `_read` then says what is wrong with it."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


class Downloads:
    """The downloads folder and what could not be brought into it.

    Attributes:
        dead: address -> reason, of this run; failures are not kept, the next run tries them again.
    """

    def __init__(self, folder: Path, limits: Limits, *, refresh: bool = False) -> None:
        self.dead: dict[str, str] = {}
        self._folder = folder
        self._limits = limits
        self._refresh = refresh
        self._gates: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(limits.per_host))
        self._silent: Counter[str] = Counter()

    def place(self, address: str) -> Path:
        """Where the photo of an address lies once it is fetched."""
        key = sha256_bytes(address.encode())
        return self._folder / key[:2] / key

    def located(self, given: str, address: str) -> Located:
        """What the import is told of a photo: its file, or why there is none."""
        if not is_remote(address):
            return Located(given, Path(address))
        return Located(given, None if address in self.dead else self.place(address), self.dead.get(address, ""))

    def fetch(self, addresses: Sequence[str], track: Track) -> None:
        """Bring all photos in that are not there yet; failures are in `dead` afterwards."""
        unknown = unknown_schemes(addresses)
        for address in addresses:  # a misspelt address is its own row's trouble, not the table's
            if _scheme(address) in unknown:
                self.dead[address] = f"{_scheme(address)}:// cannot be fetched; use http, https, s3 or files"
        known = [address for address in addresses if _scheme(address) not in unknown]
        with ThreadPoolExecutor(self._limits.jobs) as pool:
            results = self._results(pool, known)
            try:
                for address, reason in track(results, self._words, len(known)):
                    if reason:
                        self.dead[address] = reason
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _words(self) -> str:
        return f"fetching photos, {len(self.dead)} dead links" if self.dead else "fetching photos"

    def _results(self, pool: ThreadPoolExecutor, addresses: Sequence[str]) -> Iterator[tuple[str, str]]:
        waiting = iter(addresses)
        while batch := list(itertools.islice(waiting, _BATCH)):
            yield from zip(batch, pool.map(self._bring, batch), strict=True)

    def _bring(self, address: str) -> str:
        """Fetch one photo; the reason if it cannot be had, else ""."""
        place = self.place(address)
        if place.exists() and not self._refresh:
            return ""
        host = _host(address)
        with self._gates[host]:
            for attempt in range(1, self._limits.tries + 1):
                if self._silent[host] >= _SILENT:
                    return f"{host} did not answer {_SILENT} times in a row and was not asked again"
                try:
                    write_atomic(place, _checked(_read(address, self._limits)))
                except _Failed as failed:
                    self._silent[host] = self._silent[host] + 1 if failed.silent else 0
                    if not failed.again or attempt == self._limits.tries:
                        return failed.reason
                    pause = max(failed.wait_s, self._limits.backoff_s * 2 ** (attempt - 1))
                    time.sleep(min(pause, _LONGEST_WAIT_S))
                else:
                    self._silent[host] = 0
                    return ""
        return "it was never tried"


def _read(address: str, limits: Limits) -> bytes:
    """The bytes behind an address, or `_Failed`."""
    import aiohttp
    from fsspec.exceptions import FSTimeoutError

    pieces = io.BytesIO()
    try:
        with _opener(address, limits.timeout_s)() as stream:
            while piece := stream.read(_PIECE):
                pieces.write(piece)
                if pieces.tell() > limits.max_bytes:
                    raise _Failed(f"it is larger than {limits.max_bytes} bytes")
    except aiohttp.ClientResponseError as error:
        raise _Failed(
            f"HTTP {error.status}", error.status == 429 or error.status >= 500, wait_s=_wait(error)
        ) from error
    except FileNotFoundError as error:
        raise _Failed("404, there is nothing at this address") from error
    except (TimeoutError, FSTimeoutError) as error:
        raise _Failed(f"no answer within {limits.timeout_s:g} s", again=True, silent=True) from error
    except aiohttp.ClientPayloadError as error:
        raise _Failed("the answer broke off", again=True) from error
    except aiohttp.ClientConnectionError as error:
        raise _Failed("the host cannot be reached", again=True, silent=True) from error
    except (OSError, ValueError, aiohttp.ClientError) as error:
        raise _Failed(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return pieces.getvalue()


def _opener(address: str, timeout_s: float) -> Callable[[], Any]:
    if not address.startswith(("http://", "https://")):
        import fsspec

        system, path = fsspec.core.url_to_fs(address)
        return functools.partial(system.open, path, "rb")
    # A size given in advance spares a HEAD request a photo; block_size 0 streams.
    return functools.partial(_http(timeout_s).open, address, "rb", block_size=0, size=1)


@functools.cache
def _http(timeout_s: float) -> Any:
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
    return HTTPFileSystem(client_kwargs={"timeout": timeout}, use_listings_cache=False)


def _checked(data: bytes) -> bytes:
    """The same bytes, if they begin like a photo; whether they are whole shows when the import decodes them."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return data
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        page = data[:200].lstrip().lower().startswith((b"<!doctype", b"<html"))
        what = "a web page" if page else f"{len(data)} bytes of something else"
        raise _Failed(f"the answer is no photo but {what}") from error


def _wait(error: Any) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 without one."""
    given = (error.headers or {}).get("Retry-After", "")
    if given.isdigit():
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return 0.0
