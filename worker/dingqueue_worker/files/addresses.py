"""Which hosts and addresses a shared URL may reach. Pure: resolves nothing, connects to nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

#: https://www.rfc-editor.org/rfc/rfc6052
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAME = re.compile(r"[\w.-]+")


def checked_host(text: str) -> str:
    """A host that a setting opens, as it is compared: ``host``, ``host:port`` or ``[::1]:port``, in lower case.

    Raises:
        ValueError: It is none.
    """
    host, port = _apart(text.strip().lower().rstrip("."))
    if _NAME.fullmatch(host) is None and not _is_ipv6(host):
        raise ValueError("expected a host like files.corp.example, 10.0.0.5 or [fd00::5], with :port to narrow it")
    return _joined(host, port)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


class OpenHosts:
    """The hosts that the settings open: they may be private, and may speak plain http."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = frozenset(checked_host(host) for host in hosts)

    def holds(self, host: str, port: int) -> bool:
        """Whether a URL's host and port are among them; an entry without a port opens all ports."""
        host = host.lower().rstrip(".")
        return _joined(host, None) in self._hosts or _joined(host, port) in self._hosts


def refusal(address: str) -> str:
    """Why nobody on the open internet has this address, in a word; empty for one that somebody has.

    Args:
        address: As the resolver gives it; a zone (``%eth0``) is part of it.
    """
    return _refusal(ipaddress.ip_address(address))


def _refusal(ip: IPv4Address | IPv6Address) -> str:
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return "IPv4-mapped"
        if (inside := _carried(ip)) is not None:
            return f"IPv6 around {why}" if (why := _refusal(inside)) else ""
        if ip.is_site_local:
            return "private"
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.is_multicast:
        return "multicast"
    if ip.is_unspecified or ip.is_reserved:
        return "reserved"
    return "" if ip.is_global else "private"


def _carried(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a translator or a tunnel would go to."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip.teredo is not None:
        return ip.teredo[1]
    return ip.sixtofour


def _apart(text: str) -> tuple[str, int | None]:
    if found := re.fullmatch(r"\[([0-9a-f:.]*:[0-9a-f:.]*)\](?::([0-9]{1,5}))?", text):
        return found[1], _port(found[2])
    if text.count(":") > 1:
        return text, None
    host, _, port = text.partition(":")
    return host, _port(port or None)


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise ValueError("expected a port from 1 to 65535")
    return int(text)


def _joined(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
