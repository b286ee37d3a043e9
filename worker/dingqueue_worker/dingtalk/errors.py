"""When there is no answer. ``str()`` is safe to log: a class name and a fixed phrase, never a URL or a token.

NoAnswer
├── NotSent      nothing of the request left this machine: try again, the permit goes back
└── Unanswered   some of it left and nobody saw the end: DingTalk may have acted on it
"""

from __future__ import annotations


class NoAnswer(Exception):
    """A request without an answer.

    It is raised bare, with neither cause nor context: the libraries' own errors hold the URL, and with it the token.

    Attributes:
        kind: The class name of the library's error that lay at the bottom (``"NameResolutionError"``).
        phrase: What that means, in fixed words.
    """

    def __init__(self, kind: str, phrase: str) -> None:
        super().__init__(f"{phrase} ({kind})")
        self.kind = kind
        self.phrase = phrase


class NotSent(NoAnswer):
    """The name was not found, the connection, the proxy's tunnel or the TLS handshake failed: DingTalk saw nothing."""


class Unanswered(NoAnswer):
    """Everything after the first byte left: no answer in time, a reset, an answer cut short."""
