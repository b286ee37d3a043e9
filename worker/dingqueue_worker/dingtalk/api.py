"""The one door to HTTP: one method per DingTalk call. Knows no job, no queue, and not what an answer means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import quote_plus, urlencode

import requests
from requests.adapters import HTTPAdapter

from dingqueue.files.limits import MediaType
from dingqueue.tracing import Spans
from dingqueue_worker.dingtalk.answers import Answer
from dingqueue_worker.dingtalk.errors import NoAnswer, NotSent, Unanswered
from dingqueue_worker.dingtalk.signing import robot_query
from dingqueue_worker.settings import App, Robot, Secret
from dingqueue_worker.watched import (
    FAILED,
    NETWORK_ERRORS,
    NOT_SENT,
    UNANSWERED,
    Pool,
    Reply,
    TlsPool,
    bottom,
    exchange,
    mask_library_logs,
    watch,
)

if TYPE_CHECKING:
    from requests_toolbelt.multipart.encoder import MultipartEncoder

#: DingTalk's answers have a few hundred bytes; a longer one is somebody else's page, and its head is enough.
MAX_ANSWER_BYTES = 64 * 1024
#: A file leaves in pieces of this size: each costs a turn through the form, the clock and the socket.
_SEND_BYTES = 256 * 1024
_SAFE_HEADERS = {
    "Accept": "application/json",
    # Answers are tiny; and what is not compressed cannot swell.
    "Accept-Encoding": "identity",
    "User-Agent": "dingqueue",
}
_JSON_HEADERS = _SAFE_HEADERS | {"Content-Type": "application/json; charset=utf-8"}


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
        spans: Spans | None = None,
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
            spans: Where a span is made for each call; None makes none.

        Raises:
            ValueError: The environment names a SOCKS proxy.
        """
        self._connect_timeout_s, self._read_timeout_s = min(connect_timeout_s, total_timeout_s), read_timeout_s
        self._total_timeout_s = total_timeout_s
        self._spans = spans
        self._adapter = _Adapter(pool_connections=4, pool_maxsize=pool_size)
        self._oapi, self._api = _host(oapi_url), _host(api_url)
        mask_library_logs()

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

    def media_upload(self, file: MediaFile, *, token: Secret, timeout_s: float) -> Answer:
        """Upload a file; the ``media_id`` of the answer stands for it from then on.

        https://open.dingtalk.com/document/development/upload-media-files

        Args:
            file: Read from its start, in pieces.
            token: The app's.
            timeout_s: For the whole of it, however slow the line is.
        """
        return _answered(self._upload(file, token, timeout_s))

    def knock(self) -> Answer:
        """Look at the older host's robots with a GET that names none: it is refused (43002), counted for nobody and sends nothing."""
        return _answered(self._exchange(_Request("GET", "/robot/send", _SAFE_HEADERS), self._oapi))

    def knock_newer(self) -> Answer:
        """Ask the newer host for a token without naming an app: it is refused (MissingappKey), and sends nothing."""
        return _answered(self._exchange(_json_request("POST", "/v1.0/oauth2/accessToken", b"{}"), self._api))

    def close(self) -> None:
        """Close every connection."""
        self._adapter.close()

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
        request = _Request("POST", f"/robot/send?{query}", headers=_JSON_HEADERS, body=body)
        return self._exchange(request, self._oapi, hide=(robot.token, robot.secret))

    def _ask_for_token(self, app: App) -> Answer | NoAnswer:
        secret = app.app_secret.reveal()
        if app.token_by == "oauth2":  # noqa: S105 - the name of a call
            body = json.dumps({"appKey": app.app_key, "appSecret": secret}, ensure_ascii=False).encode()
            request = _json_request("POST", "/v1.0/oauth2/accessToken", body)
            return self._exchange(request, self._api, hide=(app.app_secret,))
        names = ("corpid", "corpsecret") if app.token_by == "corpid" else ("appkey", "appsecret")  # noqa: S105
        query = urlencode(dict(zip(names, (app.app_key, secret), strict=True)))
        return self._exchange(_Request("GET", f"/gettoken?{query}", _SAFE_HEADERS), self._oapi, hide=(app.app_secret,))

    def _call_newer(
        self, method: str, path: str, token: Secret, body: bytes | None, query: Mapping[str, str]
    ) -> Answer | NoAnswer:
        headers = {"x-acs-dingtalk-access-token": token.reveal()}
        target = path + (f"?{urlencode(query)}" if query else "")
        return self._exchange(_json_request(method, target, body, headers), self._api, hide=(token,))

    def _call_older(self, path: str, token: Secret, body: bytes) -> Answer | NoAnswer:
        target = f"{path}?{urlencode({'access_token': token.reveal()})}"
        return self._exchange(_json_request("POST", target, body), self._oapi, hide=(token,))

    def _upload(self, file: MediaFile, token: Secret, timeout_s: float) -> Answer | NoAnswer:
        # Only apps upload, and where there are some it is loaded at the start.
        from requests_toolbelt.multipart.encoder import MultipartEncoder

        file.content.seek(0)
        part = (file.name, _Part(file.content, file.size_bytes), "application/octet-stream")
        # The type stands in the query too: DingTalk's page says so for those who are told that it is wrong.
        form = MultipartEncoder([("type", file.media_type), ("media", part)])
        query = urlencode({"access_token": token.reveal(), "type": file.media_type})
        headers = _SAFE_HEADERS | {"Content-Type": form.content_type, "Content-Length": str(form.len)}
        request = _Request("POST", f"/media/upload?{query}", headers=headers, body=form)
        return self._exchange(request, self._oapi, hide=(token,), total_timeout_s=timeout_s)

    def _exchange(
        self,
        request: _Request,
        host: _Host,
        *,
        hide: Iterable[Secret | None] = (),
        total_timeout_s: float | None = None,
    ) -> Answer | NoAnswer:
        if self._spans is None:
            return self._exchanged(request, host, hide, total_timeout_s)
        with self._spans.request(request.method, host.url + request.target) as note:
            got = self._exchanged(request, host, hide, total_timeout_s)
            if isinstance(got, NoAnswer):
                note(None, got.kind)
            else:
                note(got.status, "")
            return got

    def _exchanged(
        self, request: _Request, host: _Host, hide: Iterable[Secret | None], total_timeout_s: float | None
    ) -> Answer | NoAnswer:
        with exchange(total_timeout_s or self._total_timeout_s) as one:
            try:
                way = self._adapter.way_to(host)
                reply = way.pool.once(
                    request.method,
                    way.before + request.target,
                    body=request.body,
                    headers=request.headers,
                    connect_timeout_s=self._connect_timeout_s,
                    read_timeout_s=total_timeout_s or self._read_timeout_s,
                    most_bytes=MAX_ANSWER_BYTES + 1,
                )
                return _answer(reply, hide)
            except NETWORK_ERRORS as error:
                kind = type(bottom(error)).__name__
                if one.left:
                    return Unanswered(kind, f"sent, and nobody saw the end: {UNANSWERED.get(kind, FAILED)}")
                return NotSent(kind, f"nothing was sent: {NOT_SENT.get(kind, FAILED)}")
            except ValueError as error:  # of a header, with the token in its words
                kind = type(error).__name__
                if one.left:
                    return Unanswered(kind, f"sent, and nobody saw the end: {FAILED}")
                return NotSent(kind, "nothing was sent: the token holds what no HTTP header may")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A file as it is uploaded.

    Attributes:
        name: With the extension that DingTalk knows its type by.
        media_type: What DingTalk is told that it is.
        content: A file that can be read again.
        size_bytes: All of it.
    """

    name: str
    media_type: MediaType
    content: BinaryIO
    size_bytes: int


class _Part:
    """A file as the form reads it: never asked for its descriptor, so that what is small stays in memory."""

    def __init__(self, content: BinaryIO, size_bytes: int) -> None:
        self._content, self.len = content, size_bytes

    def read(self, size_bytes: int = -1) -> bytes:
        data = self._content.read(self.len if size_bytes < 0 else min(size_bytes, self.len))
        self.len -= len(data)
        return data


def _answered(got: Answer | NoAnswer) -> Answer:
    """Raises here, where neither an exception with the URL in it, nor the URL itself, nor a bare secret is in reach."""
    if isinstance(got, NoAnswer):
        raise got
    return got


def _json_request(method: str, target: str, body: bytes | None, headers: Mapping[str, str] = NO_QUERY) -> _Request:
    return _Request(
        method, target, headers={**(_SAFE_HEADERS if body is None else _JSON_HEADERS), **headers}, body=body
    )


def _answer(reply: Reply, hide: Iterable[Secret | None]) -> Answer:
    # "-sig": a byte order mark is not JSON. "replace": an answer in another encoding is still an answer.
    text = reply.body[:MAX_ANSWER_BYTES].decode("utf-8-sig", "replace")
    for secret in hide:
        if secret and secret.reveal():  # a far side that echoes what it was given must not make us repeat it
            text = text.replace(secret.reveal(), "***").replace(quote_plus(secret.reveal()), "***")
    return Answer(
        status=reply.status,
        content_type=reply.headers.get("Content-Type", ""),
        body=text,
        date=reply.headers.get("Date"),
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """One call. Its target is the path and the query, both encoded; where it goes to is the host's."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | MultipartEncoder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """A base URL and what the environment says about reaching it."""

    url: str
    proxies: Mapping[str, str]
    verify: bool | str
    cert: str | tuple[str, str] | None


def _host(url: str) -> _Host:
    with requests.Session() as session:
        found: dict[str, Any] = dict(session.merge_environment_settings(url, {}, True, None, None))
    proxies = {scheme: proxy for scheme, proxy in found["proxies"].items() if proxy}
    if any(proxy.lower().startswith("socks") for proxy in proxies.values()):
        raise ValueError("SOCKS proxies are not supported: name an http:// or https:// proxy, or set NO_PROXY")
    return _Host(url=url, proxies=proxies, verify=found["verify"], cert=found["cert"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """The connections to a host. Before every target stands the base URL's path, or all of it for a proxy to read."""

    pool: Pool | TlsPool
    before: str


class _Adapter(HTTPAdapter):
    """What requests knows of proxies, certificates and their environment, asked once for each host."""

    def __init__(self, *, pool_connections: int, pool_maxsize: int) -> None:
        super().__init__(pool_connections=pool_connections, pool_maxsize=pool_maxsize)
        self._ways: dict[str, _Way] = {}

    def way_to(self, host: _Host) -> _Way:
        """The same at each call; raises what a connection raises, where a certificate's file is missing."""
        way = self._ways.get(host.url)
        if way is None:
            proxies = dict(host.proxies)
            base = requests.Request("GET", host.url).prepare()
            above: Any = self  # its type stub knows neither
            pool: Pool | TlsPool = above.get_connection_with_tls_context(
                base, host.verify, proxies=proxies, cert=host.cert
            )
            above.cert_verify(pool, host.url, host.verify, host.cert)
            before = self.request_url(base, proxies).rstrip("/")
            way = self._ways[host.url] = _Way(pool=pool, before=before)
        return way

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, blocksize=_SEND_BYTES, **kwargs)
        watch(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return watch(super().proxy_manager_for(*args, blocksize=_SEND_BYTES, **kwargs))
