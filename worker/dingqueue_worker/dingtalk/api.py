"""The one door to HTTP: one method per DingTalk call. Knows no job, no queue, and not what an answer means."""

from __future__ import annotations

import http.client
import io
import json
import logging
import re
import socket
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeGuard, TypeVar
from urllib.parse import quote_plus, urlencode

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, ProxyError

from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.dingtalk.errors import NoAnswer, NotSent, Unanswered
from dingqueue_worker.dingtalk.signing import robot_query
from dingqueue_worker.settings import App, Robot, Secret

#: DingTalk's answers have a few hundred bytes; a longer one is somebody else's page, and its head is enough.
MAX_ANSWER_BYTES = 64 * 1024
#: A connection that idled longer is not used again: the far side, or a NAT between, may have dropped it without our
#: seeing it, and then nobody could tell whether the request was taken. A new handshake is cheaper than that doubt.
MAX_IDLE_S = 10.0
_CHUNK_BYTES = 8 * 1024
_SAFE_HEADERS = {
    "Accept": "application/json",
    # Answers are tiny; and what is not compressed cannot swell.
    "Accept-Encoding": "identity",
    "User-Agent": "dingqueue",
}


NO_QUERY: Mapping[str, str] = MappingProxyType({})


class Api:
    """DingTalk's calls over one pool of connections, for one process and all its threads.

    Proxies and the CA bundle come from the usual environment variables, read once, here.

    Raises (every method):
        NotSent: Nothing left this machine.
        Unanswered: The request left, at least in part, and no whole answer came back.
    """

    def __init__(
        self,
        *,
        oapi_url: str,
        api_url: str,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float,
        pool_size: int,
    ) -> None:
        """Open nothing yet.

        Args:
            oapi_url: DingTalk's older host, without a trailing slash.
            api_url: DingTalk's newer host, without a trailing slash.
            connect_timeout_s: For a connection to one address, its TLS handshake included.
            read_timeout_s: Longest silence of the far side.
            total_timeout_s: For the whole request, whatever drips in. A name server that hangs is outside it
                (the resolver's own limit counts there), but a request never *leaves* after this time.
            pool_size: Connections kept; as many as threads that deliver.

        Raises:
            ValueError: The environment names a SOCKS proxy.
        """
        self._timeouts = (min(connect_timeout_s, total_timeout_s), read_timeout_s)
        self._total_timeout_s = total_timeout_s
        self._session = requests.Session()
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._oapi = _host(self._session, oapi_url)
        self._api = _host(self._session, api_url)
        # The environment has been read: requests would read it (and ~/.netrc) again at every call.
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            # max_retries=0: a repeated POST behind our back is a second message.
            self._session.mount(scheme, _Adapter(pool_connections=4, pool_maxsize=pool_size, max_retries=0))
        _mask_library_logs()

    def robot_send(self, robot: Robot, body: bytes, *, timestamp_ms: int) -> Answer:
        """Post a message through a custom robot, signed for ``timestamp_ms`` if the robot has a secret.

        https://open.dingtalk.com/document/development/custom-bot-to-send-group-chat-messages

        Args:
            robot: Whose token and secret to use; they travel in the query and nowhere else.
            body: The final UTF-8 bytes of the JSON body.
            timestamp_ms: Now, Unix time in milliseconds.
        """
        return _answered(self._post_as_robot(robot, body, timestamp_ms))

    def app_token(self, app: App) -> Answer:
        """Ask for an app's token, by the call that the app's settings name.

        https://open.dingtalk.com/document/development/obtain-the-access-token-of-an-internal-app
        """
        return _answered(self._ask_for_token(app))

    def newer(
        self, method: str, path: str, *, token: Secret, body: bytes | None = None, query: Mapping[str, str] = NO_QUERY
    ) -> Answer:
        """One call of the newer host; the token travels in a header.

        Args:
            method: ``GET``, ``POST``, ``PUT`` or ``DELETE``.
            path: With the leading slash, its parts percent-encoded.
            token: The app's.
            body: The final UTF-8 bytes of the JSON body.
            query: Not encoded yet.
        """
        return _answered(self._call_newer(method, path, token, body, query))

    def older(self, path: str, *, token: Secret, body: bytes) -> Answer:
        """One POST to the older host; the token travels in the query.

        Args:
            path: With the leading slash.
            token: The app's.
            body: The final UTF-8 bytes of the JSON body.
        """
        return _answered(self._call_older(path, token, body))

    def knock(self) -> Answer:
        """Look at the older host's robots with a GET that names none: it is refused (43002), counted for nobody and sends nothing."""
        return _answered(self._exchange(_json_request("GET", f"{self._oapi.url}/robot/send", None), self._oapi))

    def knock_newer(self) -> Answer:
        """Ask the newer host for a token with a GET that names no app: it is refused, and sends nothing."""
        return _answered(
            self._exchange(_json_request("GET", f"{self._api.url}/v1.0/oauth2/accessToken", None), self._api)
        )

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def __enter__(self) -> Self:
        """The Api itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self.close()

    def _post_as_robot(self, robot: Robot, body: bytes, timestamp_ms: int) -> Answer | NoAnswer:
        secret = robot.secret.reveal() if robot.secret else None
        query = robot_query(robot.token.reveal(), secret, timestamp_ms)
        headers = _SAFE_HEADERS | {"Content-Type": "application/json; charset=utf-8"}
        request = requests.Request("POST", f"{self._oapi.url}/robot/send?{query}", headers=headers, data=body)
        return self._exchange(request, self._oapi, hide=(robot.token, robot.secret))

    def _ask_for_token(self, app: App) -> Answer | NoAnswer:
        secret = app.app_secret.reveal()
        if app.token_by == "oauth2":  # noqa: S105 - the name of a call
            body = json.dumps({"appKey": app.app_key, "appSecret": secret}, ensure_ascii=False).encode()
            request = _json_request("POST", f"{self._api.url}/v1.0/oauth2/accessToken", body)
            return self._exchange(request, self._api, hide=(app.app_secret,))
        names = ("corpid", "corpsecret") if app.token_by == "corpid" else ("appkey", "appsecret")  # noqa: S105
        query = urlencode(dict(zip(names, (app.app_key, secret), strict=True)))
        request = _json_request("GET", f"{self._oapi.url}/gettoken?{query}", None)
        return self._exchange(request, self._oapi, hide=(app.app_secret,))

    def _call_newer(
        self, method: str, path: str, token: Secret, body: bytes | None, query: Mapping[str, str]
    ) -> Answer | NoAnswer:
        headers = {"x-acs-dingtalk-access-token": token.reveal()}
        url = f"{self._api.url}{path}" + (f"?{urlencode(query)}" if query else "")
        return self._exchange(_json_request(method, url, body, headers), self._api, hide=(token,))

    def _call_older(self, path: str, token: Secret, body: bytes) -> Answer | NoAnswer:
        url = f"{self._oapi.url}{path}?{urlencode({'access_token': token.reveal()})}"
        return self._exchange(_json_request("POST", url, body), self._oapi, hide=(token,))

    def _exchange(
        self, request: requests.Request, host: _Host, *, hide: Iterable[Secret | None] = ()
    ) -> Answer | NoAnswer:
        exchange = _Exchange(deadline=time.monotonic() + self._total_timeout_s)
        reset = _current.set(exchange)
        try:
            prepared = self._session.prepare_request(request)
            # Not Session.send: it reads the whole body of a redirect, however long, and follows what it names.
            response = self._session.get_adapter(host.url).send(
                prepared,
                stream=True,
                timeout=self._timeouts,
                verify=host.verify,
                cert=host.cert,
                proxies=dict(host.proxies),
            )
            try:
                return _answer(response, hide)
            finally:
                response.close()
        # requests' own errors are OSErrors; urllib3's and http.client's slip through it in places.
        except (OSError, HTTPError, http.client.HTTPException) as error:
            kind = type(_bottom(error)).__name__
            if exchange.left:
                return Unanswered(kind, f"sent, and nobody saw the end: {_UNANSWERED.get(kind, _FAILED)}")
            return NotSent(kind, f"nothing was sent: {_NOT_SENT.get(kind, _FAILED)}")
        finally:
            _current.reset(reset)


def _answered(got: Answer | NoAnswer) -> Answer:
    """Raises here, where neither an exception with the URL in it, nor the URL itself, nor a bare secret is in reach."""
    if isinstance(got, NoAnswer):
        raise got
    return got


def _json_request(method: str, url: str, body: bytes | None, headers: Mapping[str, str] = NO_QUERY) -> requests.Request:
    typed = {"Content-Type": "application/json; charset=utf-8"} if body is not None else {}
    return requests.Request(method, url, headers={**_SAFE_HEADERS, **typed, **headers}, data=body)


def _answer(response: requests.Response, hide: Iterable[Secret | None]) -> Answer:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    # "-sig": a byte order mark is not JSON. "replace": an answer in another encoding is still an answer.
    text = bytes(body[:MAX_ANSWER_BYTES]).decode("utf-8-sig", "replace")
    for secret in hide:
        if secret and secret.reveal():  # a far side that echoes what it was given must not make us repeat it
            text = text.replace(secret.reveal(), "***").replace(quote_plus(secret.reveal()), "***")
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("Content-Type", ""),
        body=text,
        date=response.headers.get("Date"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """A base URL and what the environment says about reaching it."""

    url: str
    proxies: Mapping[str, str]
    verify: bool | str
    cert: str | tuple[str, str] | None


def _host(session: requests.Session, url: str) -> _Host:
    found: dict[str, Any] = dict(session.merge_environment_settings(url, {}, True, None, None))
    proxies = {scheme: proxy for scheme, proxy in found["proxies"].items() if proxy}
    if any(proxy.lower().startswith("socks") for proxy in proxies.values()):
        raise ValueError("SOCKS proxies are not supported: name an http:// or https:// proxy, or set NO_PROXY")
    return _Host(url=url, proxies=proxies, verify=found["verify"], cert=found["cert"])


# --- One request's clock, and whether it has left ---------------------------------------------------------------
#
# The libraries' exceptions cannot say whether a request left: a TLS error, a timeout and a reset look alike before and
# after. And their timeouts restart with every byte that drips in. So the connection itself notes the moment of the
# first byte, and reads against one deadline.


@dataclass(slots=True, kw_only=True)
class _Exchange:
    deadline: float
    left: bool = False

    def left_s(self) -> float:
        return self.deadline - time.monotonic()


_current: ContextVar[_Exchange] = ContextVar("dingqueue_exchange")


class _DeadlineReader(io.RawIOBase):
    """A socket's raw reader that waits for no byte past the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, exchange: _Exchange) -> None:
        self._raw = raw
        self._sock = sock
        self._silence_s = sock.gettimeout()
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left_s = self._exchange.left_s()
        if left_s <= 0:
            raise TimeoutError("the request's total time is over")
        self._sock.settimeout(left_s if self._silence_s is None else min(self._silence_s, left_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock, _current.get()))


class _Watched(HTTPConnection):
    """A connection that notes when a request leaves, and is not used again after a long idle time."""

    response_class = _DeadlineResponse
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        """The pool asks this before it hands a kept connection out."""
        return time.monotonic() - self._used_at < MAX_IDLE_S and super().is_connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        exchange = _current.get()
        if exchange.left_s() <= 0:
            raise ConnectTimeoutError(self, "the request's total time is over before it left")
        self._used_at = time.monotonic()
        exchange.left = True
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        if self.sock is not None:
            left_s = _current.get().left_s()
            if left_s <= 0:
                raise TimeoutError("the request's total time is over")
            self.sock.settimeout(left_s)
        super().send(data)


class _WatchedTls(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTls


_Manager = TypeVar("_Manager", bound=PoolManager)


def _watch(manager: _Manager) -> _Manager:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return manager


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _watch(super().proxy_manager_for(*args, **kwargs))


# --- Words without secrets --------------------------------------------------------------------------------------

_FAILED = "the connection failed"
_NOT_SENT = {
    "NameResolutionError": "the host's name was not found",
    "gaierror": "the host's name was not found",
    "ConnectionRefusedError": "connection refused",
    "ConnectionResetError": "the connection was reset at once",
    "ConnectTimeoutError": "no connection in time",
    "TimeoutError": "no connection in time",
    "ReadTimeoutError": "no connection in time",
    "ProxyError": "the proxy did not connect us",
    "SSLError": "the TLS handshake failed",
    "SSLCertVerificationError": "the server's certificate was not accepted",
    "CertificateError": "the server's certificate was not accepted",
}
_UNANSWERED = {
    "ReadTimeoutError": "no answer in time",
    "TimeoutError": "no answer in time",
    "RemoteDisconnected": "the connection ended before an answer",
    "ConnectionResetError": "the connection was reset before an answer",
    "BrokenPipeError": "the connection was reset before an answer",
    "IncompleteRead": "the answer was cut short",
    "InvalidChunkLength": "the answer was cut short",
    "BadStatusLine": "what came back was not HTTP",
}


def _bottom(error: BaseException) -> BaseException:
    """The error that the libraries wrapped, as far down as it still names what happened."""
    while not isinstance(error, ProxyError):
        inside = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((part for part in inside if _is_network(part)), None)
        if inner is None:
            break
        error = inner
    return error


def _is_network(part: object) -> TypeGuard[BaseException]:
    return isinstance(part, OSError | HTTPError | http.client.HTTPException)


#: Whatever urllib3 logs with a URL in it (every request, at DEBUG) holds the token and the signature.
_LIBRARY_LOGGERS = ("connection", "connectionpool", "poolmanager", "response", "util.retry")
_QUERY = re.compile(r"\?[^\s'\"]*")


class _MaskQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _QUERY.sub("?***", record.getMessage())
        record.args = ()
        return True


_MASK_QUERIES = _MaskQueries()


def _mask_library_logs() -> None:
    for name in _LIBRARY_LOGGERS:
        logging.getLogger(f"urllib3.{name}").addFilter(_MASK_QUERIES)
