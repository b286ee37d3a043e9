"""Fetches what a shared URL names, and nothing that it should not reach. Knows no job, no DingTalk and no Redis.

A URL comes from an application's users as often as not, and the worker sits where they do not: so every host is
resolved here, its addresses are judged, and the connection is made to a judged address, at the start and after every
redirect. No text of an error holds more of a URL than its host: paths and queries are where signatures stand.
"""

from __future__ import annotations

import email.message
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import unquote, urljoin

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3 import BaseHTTPResponse, ProxyManager, Timeout, make_headers
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from dingqueue.files.source import CHUNK_BYTES, spooled
from dingqueue_worker.files.addresses import OpenHosts, refusal
from dingqueue_worker.watched import (
    FAILED,
    NETWORK_ERRORS,
    NOT_SENT,
    UNANSWERED,
    Exchange,
    Pool,
    TlsPool,
    bottom,
    exchange,
    mask_library_logs,
    watch,
)

MAX_REDIRECTS = 5
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "dingqueue"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Statuses that may change by themselves.
_LATER = frozenset({408, 425, 429})
#: A name that is not found may be a typing mistake, a certificate that is not accepted may be replaced: not for long.
_HOPELESS_ATTEMPTS = 3

#: Gives a host's addresses; as ``socket.getaddrinfo`` does, in the order of preference.
Resolve = Callable[[str, int], Iterable[str]]


class FetchRefused(Exception):
    """It is not to be fetched, or not what can be shared: trying again is no use. ``str()`` is safe to log."""


class FetchFailed(Exception):
    """It did not come this time. ``str()`` is safe to log.

    Attributes:
        at_most: Attempts after which it is hopeless; None is the fleet's own cap.
    """

    def __init__(self, why: str, *, at_most: int | None = None) -> None:
        super().__init__(why)
        self.at_most = at_most


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came. Valid inside the ``with`` that gave it.

    Attributes:
        content: From its start; on disk when it is large.
        size_bytes: All of it.
        name: What the server calls it, "" where it does not say.
    """

    content: BinaryIO
    size_bytes: int
    name: str


class Fetcher:
    """Fetches URLs, each over a connection of its own. Safe in many threads at once.

    Proxies and the CA bundle come from the usual environment variables. Where a proxy is to be used it is the proxy
    that resolves and connects: names that resolve here to a refused address are refused all the same, but the proxy's
    own rules must keep it away from what is inside.

    Args:
        open_hosts: Hosts that may be private, and may speak plain http.
        timeout_s: For all of it, redirects included. A name server that hangs is outside it, but nothing is read after.
        connect_timeout_s: For a connection to one address.
        silence_s: Longest silence of the far side.
        resolve: Gives a host's addresses.
    """

    def __init__(
        self,
        *,
        open_hosts: Iterable[str],
        timeout_s: float,
        connect_timeout_s: float,
        silence_s: float,
        resolve: Resolve | None = None,
    ) -> None:
        self._open_hosts = OpenHosts(open_hosts)
        self._timeout_s, self._connect_timeout_s, self._silence_s = timeout_s, connect_timeout_s, silence_s
        self._resolve = resolve or _addresses
        mask_library_logs()

    @contextmanager
    def fetch(self, url: str, *, most_bytes: int) -> Iterator[Fetched]:
        """What a URL names.

        Args:
            url: http(s).
            most_bytes: More is refused as soon as it shows.

        Raises:
            FetchRefused: A host that is not to be reached, a page that is not there, something too large.
            FetchFailed: A network, a server or a disk that failed.
        """
        with ExitStack() as stack:
            yield self._fetched(url, most_bytes, stack)

    def _fetched(self, url: str, most_bytes: int, stack: ExitStack) -> Fetched:
        target = _target(url)
        credentials = target.url.auth
        with exchange(self._timeout_s) as one:
            for _ in range(MAX_REDIRECTS + 1):
                one.left = False
                self._check_scheme(target)
                with _network(target, one), self._asked(target, credentials, one) as response:
                    if response.status not in _REDIRECTS:
                        return _read(response, target, most_bytes, stack)
                    following = _following(target, response)
                if following.origin != target.origin:
                    credentials = None  # they were for the first host alone
                target = following
            raise FetchRefused(f"{target.shown} redirects again after {MAX_REDIRECTS} redirects")

    def _check_scheme(self, target: _Target) -> None:
        if target.scheme == "http" and not self._open_hosts.holds(target.host, target.port):
            raise FetchRefused(
                f"{target.shown} is not fetched: only https is, unless [fleet] fetch_hosts names the host"
            )

    @contextmanager
    def _asked(self, target: _Target, credentials: str | None, one: Exchange) -> Iterator[BaseHTTPResponse]:
        headers = _HEADERS | {"Host": target.authority}
        if credentials:
            headers |= make_headers(basic_auth=unquote(credentials))
        environment = _environment(target)
        proxy = select_proxy(f"{target.scheme}://{target.authority}", environment["proxies"])
        tls: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_certs": environment["ca_certs"]}
        timeout = Timeout(connect=min(self._connect_timeout_s, max(one.left_s(), 0.001)), read=self._silence_s)
        options: dict[str, Any] = {
            "headers": headers, "redirect": False, "retries": False, "preload_content": False, "decode_content": False,
            "timeout": timeout,
        }  # fmt: skip
        if proxy:
            self._judge(target, by_proxy=True)
            with watch(_proxied(proxy, tls)) as manager:
                response = manager.urlopen("GET", str(target.url._replace(auth=None, fragment=None)), **options)
                yield from _closing(response)
            return
        yield from self._connected(target, self._judge(target, by_proxy=False), tls, options, one)

    def _connected(
        self,
        target: _Target,
        addresses: Iterable[str],
        tls: Mapping[str, Any],
        options: Mapping[str, Any],
        one: Exchange,
    ) -> Iterator[BaseHTTPResponse]:
        """Ask at the first address that connects: the judged one, whatever the name resolves to a moment later."""
        failed: Exception | None = None
        for address in addresses:
            pool = (
                TlsPool(address, target.port, server_hostname=target.host, **tls)
                if target.scheme == "https"
                else Pool(address, target.port)
            )
            with pool:
                try:
                    response = pool.urlopen("GET", target.url.request_uri, **options)
                except NETWORK_ERRORS as error:
                    if one.left or one.left_s() <= 0:
                        raise
                    failed = error
                    continue
                yield from _closing(response)
                return
        raise failed or FetchFailed(f"{target.shown}: {NOT_SENT['gaierror']}", at_most=_HOPELESS_ATTEMPTS)

    def _judge(self, target: _Target, *, by_proxy: bool) -> list[str]:
        """The host's addresses, once none of them is one that nobody on the open internet has."""
        try:
            addresses = list(self._resolve(target.host, target.port))
        except UnicodeError:
            raise FetchRefused("the URL's host is no name of a host") from None
        except socket.gaierror as error:
            if by_proxy:
                return []  # behind a proxy the names of the outside are often not known
            at_most = _HOPELESS_ATTEMPTS if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA} else None
            raise FetchFailed(f"{target.shown}: {NOT_SENT['gaierror']}", at_most=at_most) from None
        if not self._open_hosts.holds(target.host, target.port):
            for address in addresses:
                if why := refusal(address):
                    raise FetchRefused(
                        f"{target.shown} is not fetched: it has a {why} address; [fleet] fetch_hosts opens chosen hosts"
                    )
        return addresses


# --- URLs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    url: Url
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.url.port is None else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """As much of the URL as a reason may hold."""
        return f"{self.scheme}://{self.authority}"


def _target(url: str) -> _Target:
    """A URL taken apart, its host in lower case and in ASCII, its path percent-encoded."""
    try:
        parts = parse_url(url)
    except LocationParseError:  # holds the URL
        raise FetchRefused("the URL cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise FetchRefused("the URL is none of http or https")
    return _Target(
        url=parts,
        scheme=parts.scheme,
        host=parts.host.strip("[]"),
        port=parts.port or (443 if parts.scheme == "https" else 80),
    )


def _following(target: _Target, response: BaseHTTPResponse) -> _Target:
    location = _text(response.headers.get("Location", ""))
    if not location:
        raise FetchRefused(f"{target.shown} redirects to nowhere (HTTP {response.status} without a Location)")
    try:
        return _target(urljoin(str(target.url._replace(auth=None)), location))
    except ValueError:
        raise FetchRefused(f"{target.shown} redirects to what is no URL") from None


def _text(header: str) -> str:
    """A header as it was meant: http.client reads bytes as Latin-1, servers mostly write UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


# --- What comes back ----------------------------------------------------------------------------------------------


def _closing(response: BaseHTTPResponse) -> Iterator[BaseHTTPResponse]:
    try:
        yield response
    finally:
        response.close()


def _read(response: BaseHTTPResponse, target: _Target, most_bytes: int, stack: ExitStack) -> Fetched:
    if response.status in _LATER or response.status >= 500:
        raise FetchFailed(f"{target.shown} answered HTTP {response.status}")
    if response.status != 200:
        raise FetchRefused(
            f"{target.shown} answered HTTP {response.status}: is the link right, still valid, and open to this worker?"
        )
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) not in {"", "identity"}:
        raise FetchRefused(f"{target.shown} sent it compressed ({encoding[:20]!r}) although it was asked not to")
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) > most_bytes:
        raise FetchRefused(f"{target.shown}: the file has {int(length):,} bytes; at most {most_bytes:,} can be shared")
    spool, size_bytes = stack.enter_context(spooled()), 0
    while chunk := response.read(CHUNK_BYTES, decode_content=False):
        size_bytes += len(chunk)
        if size_bytes > most_bytes:
            raise FetchRefused(f"{target.shown}: the file is larger than the {most_bytes:,} bytes that can be shared")
        _write(spool, chunk)
    spool.seek(0)
    return Fetched(content=spool, size_bytes=size_bytes, name=_name(response))


def _write(spool: BinaryIO, chunk: bytes) -> None:
    try:
        spool.write(chunk)
    except OSError as error:
        raise FetchFailed(f"no room for the file on this worker's disk: {error.strerror}") from None


def _name(response: BaseHTTPResponse) -> str:
    message = email.message.Message()
    message["Content-Disposition"] = _text(response.headers.get("Content-Disposition", ""))
    return message.get_filename() or ""


@contextmanager
def _network(target: _Target, one: Exchange) -> Iterator[None]:
    """Put the libraries' errors in words; theirs hold the URL."""
    try:
        yield
    except NETWORK_ERRORS as error:
        kind = type(bottom(error)).__name__
        if one.left_s() <= 0:
            raise FetchFailed(f"{target.shown}: it did not come in time") from None
        words = (UNANSWERED if one.left else NOT_SENT).get(kind, FAILED)
        refused = "certificate" in words
        raise FetchFailed(
            f"{target.shown}: {words} ({kind})", at_most=_HOPELESS_ATTEMPTS if refused else None
        ) from None


# --- The environment ----------------------------------------------------------------------------------------------


def _environment(target: _Target) -> dict[str, Any]:
    """The proxies for a host, and the CA bundle."""
    with requests.Session() as session:
        found = session.merge_environment_settings(f"{target.scheme}://{target.authority}", {}, None, None, None)
    verify = found["verify"]
    return {
        "proxies": {scheme: proxy for scheme, proxy in found["proxies"].items() if proxy},
        # "do not verify" is not for hosts that anybody may name
        "ca_certs": verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH,
    }


def _proxied(proxy: str, tls: Mapping[str, Any]) -> ProxyManager:
    try:
        parts = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except LocationParseError:
        raise FetchFailed("the proxy that the environment names cannot be read as a URL") from None
    if parts.scheme not in {"http", "https"}:
        raise FetchFailed("the proxy that the environment names is no http:// or https:// one")
    headers = make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else None
    return ProxyManager(str(parts._replace(auth=None)), proxy_headers=headers, **tls)
