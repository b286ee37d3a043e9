"""A mobile number in the one spelling that DingTalk rings. Knows nothing of jobs or people."""

from __future__ import annotations

import re
import unicodedata

#: Looks like a number and like nothing else: digits, and what people put between them.
_SHAPE = re.compile(r"\+?[0-9][0-9 ()-]*")
_MAINLAND = re.compile(r"1[3-9][0-9]{9}")
#: ITU-T E.164 country codes. No code is the beginning of another, so a number without its hyphen has one reading.
_COUNTRY = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|2[1-69][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[7-9][0-9]|8[0578][0-9]|9[679][0-9]"
)
#: E.164 allows 15 digits in all; no country has subscribers with fewer than 4.
_MOST_DIGITS = 15
_FEWEST_SUBSCRIBER_DIGITS = 4


def looks_like_mobile(text: str) -> bool:
    """Whether the text can only be meant as a phone number."""
    return _SHAPE.fullmatch(unicodedata.normalize("NFKC", text.strip())) is not None


def documented_mobile(text: str) -> str:
    """The number as DingTalk wants it: ``13800000000``, or ``+852-91234567`` with the hyphen outside mainland China.

    Only that spelling rings, see https://github.com/pppscn/SmsForwarder/issues/312.

    Raises:
        ValueError: It is no number, or could be one of several; the message says what to write.
    """
    written = unicodedata.normalize("NFKC", text.strip())
    digits = re.sub(r"[^0-9]", "", written)
    if _SHAPE.fullmatch(written) is None:
        raise ValueError(f"{text!r} is no mobile number: write 13800000000 or +852-91234567")
    if not written.startswith("+"):
        if _MAINLAND.fullmatch(digits):
            return digits
        raise ValueError(
            f"{text!r} is no mainland mobile (11 digits from 13 to 19): "
            f"outside mainland China write +<country>-<number>, like +852-91234567; for a user id write user:{digits}"
        )
    country = _COUNTRY.match(digits)
    if country is None or len(digits) > _MOST_DIGITS:
        raise ValueError(f"{text!r} has no country code that exists, or too many digits: write +852-91234567")
    subscriber = digits[country.end() :]
    if country.group() == "86":
        if _MAINLAND.fullmatch(subscriber):
            return subscriber
        raise ValueError(f"{text!r} is no mainland mobile: write its 11 digits, like 13800000000")
    if len(subscriber) < _FEWEST_SUBSCRIBER_DIGITS:
        raise ValueError(f"{text!r} is too short: write +<country>-<number>, like +852-91234567")
    return f"+{country.group()}-{subscriber}"
