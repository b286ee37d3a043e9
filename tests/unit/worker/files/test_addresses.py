"""Which addresses a shared URL may reach."""

from __future__ import annotations

import pytest

from dingqueue_worker.files.addresses import OpenHosts, checked_host, refusal


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("0.0.0.0", "reserved"),  # noqa: S104 - an address, not a server
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("198.18.0.1", "private"),
        ("192.0.2.1", "private"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::1", "loopback"),
        ("::", "reserved"),
        ("::7f00:1", "reserved"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "private"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
        ("::ffff:169.254.169.254", "IPv4-mapped"),
        ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("64:ff9b::127.0.0.1", "IPv6 around loopback"),
        ("64:ff9b::a9fe:a9fe", "IPv6 around link-local"),
        ("64:ff9b:1::10.0.0.1", "reserved"),
        ("2002:7f00:1::", "IPv6 around loopback"),
        ("2002:a00:1::", "IPv6 around private"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "IPv6 around private"),
    ],
)
def test_an_address_that_nobody_on_the_open_internet_has(address: str, why: str) -> None:
    assert refusal(address) == why


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::"]
)
def test_an_address_of_the_open_internet(address: str) -> None:
    assert refusal(address) == ""


@pytest.mark.parametrize(
    ("opened", "host", "port", "holds"),
    [
        ("files.corp.example", "files.corp.example", 443, True),
        ("files.corp.example", "FILES.corp.example.", 8080, True),
        ("files.corp.example", "evil.files.corp.example", 443, False),
        ("files.corp.example", "files.corp.example.evil.com", 443, False),
        ("files.corp.example:8443", "files.corp.example", 8443, True),
        ("files.corp.example:8443", "files.corp.example", 443, False),
        ("10.0.0.5", "10.0.0.5", 80, True),
        ("10.0.0.5", "10.0.0.50", 80, False),
        ("[fd00::5]", "fd00::5", 443, True),
        ("fd00::5", "fd00::5", 443, True),
        ("[fd00::5]:8080", "fd00::5", 443, False),
    ],
)
def test_a_host_that_the_settings_open(opened: str, host: str, port: int, holds: bool) -> None:
    assert OpenHosts([opened]).holds(host, port) is holds


@pytest.mark.parametrize(
    "text", ["", "*", "*.example", "https://a", "a/b", "a b", "a:0", "a:65536", "a:b", "[::1", "[x]"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        checked_host(text)
