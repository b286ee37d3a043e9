"""What DingTalk takes as a file: which types, how large, under which names. Pure; knows no store and no HTTP."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from dingqueue.errors import InvalidJob

#: What the upload is told a file is.
MediaType: TypeAlias = Literal["image", "voice", "video", "file"]

#: https://open.dingtalk.com/document/development/upload-media-files
MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_VOICE_BYTES = 2 * 1024 * 1024
#: A work notification's own page names less.
#: https://open.dingtalk.com/document/development/message-types-and-data-format
MAX_NOTICE_BYTES = 10 * 1024 * 1024
#: What is to be packed may be this large before.
MAX_UNPACKED_BYTES = 200 * 1024 * 1024
#: What file systems allow, and so what a name that was a file's has anyway.
MAX_NAME_BYTES = 255
#: What `check` wants to see of a file's beginning.
HEAD_BYTES = 8 * 1024

_EXTENSIONS: Mapping[MediaType, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("jpg", "gif", "png", "bmp"),
        "voice": ("amr", "mp3", "wav"),
        "video": ("mp4",),
        "file": ("doc", "docx", "xls", "xlsx", "ppt", "pptx", "zip", "pdf", "rar"),
    }
)
_MEDIA_TYPES: Mapping[str, MediaType] = MappingProxyType(
    {extension: media_type for media_type, extensions in _EXTENSIONS.items() for extension in extensions}
)
#: https://open.dingtalk.com/document/development/robot-message-type
_SHOWN = frozenset({"jpg", "gif", "png", "bmp", "xlsx", "pdf", "zip", "rar", "doc", "docx"})
_SAME: Mapping[str, str] = MappingProxyType({"jpeg": "jpg", "jpe": "jpg"})
#: Types whose content has no mark of its own: old Office files may be web pages, rich text or tables within.
_UNMARKED = frozenset({"doc", "xls", "ppt"})
#: Containers that cannot be told apart for sure by their beginning.
_ZIPPED = frozenset({"zip", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub"})
_OLE = "an older Office file"
_OFFICE = frozenset({"doc", "docx", "xls", "xlsx", "ppt", "pptx"})
_CONTROLS = frozenset({"Cc", "Zl", "Zp", "Cs"})
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "LRI", "RLI", "FSI"})
_EXTENSION = re.compile(r"\.([0-9A-Za-z]{1,16})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How DingTalk takes a file.

    Attributes:
        name: What people see; with an extension where it had none.
        type: One of DingTalk's extensions, without the dot.
        media_type: What the upload says that it is.
    """

    name: str
    type: str
    media_type: MediaType

    @property
    def surely(self) -> bool:
        """DingTalk says that it takes the type, and that its robots show it; of others it says only the first."""
        return self.type in _SHOWN


class Refused(InvalidJob):
    """DingTalk would not take this file as it is; packed in a .zip it would."""


def media_type_of(type_: str) -> MediaType:
    """What the upload says about one of DingTalk's extensions; ``file`` for any other."""
    return _MEDIA_TYPES.get(type_, "file")


def checked_name(name: str, *, field: str = "name") -> str:
    """The name, once it is known to be a file's and no trick.

    Raises:
        InvalidJob: With ``field``.
    """
    if not name.strip() or name in {".", ".."}:
        raise InvalidJob(field, "is blank")
    if "/" in name or "\\" in name:
        raise InvalidJob(field, "holds a folder: give the file's own name")
    for character in name:
        if unicodedata.category(character) in _CONTROLS:
            raise InvalidJob(field, "holds a line break or another control character")
        if unicodedata.bidirectional(character) in _TURNS:
            raise InvalidJob(field, "holds a character that turns the direction of reading: the type would be hidden")
    if (size_bytes := len(name.encode())) > MAX_NAME_BYTES:
        raise InvalidJob(field, f"{size_bytes} bytes; at most {MAX_NAME_BYTES}")
    return name


def fitting_name(name: str) -> str:
    """A file's name out of any text: what ``checked_name`` would refuse is replaced or left out, what is long is cut."""
    shown = "".join(_fitting(character) for character in name).strip(" .") or "file"
    stem, dot, extension = shown.rpartition(".")
    if not dot or not stem or len(extension) > 16:
        stem, extension = shown, ""
    room = MAX_NAME_BYTES - len(f".{extension}".encode() if extension else b"")
    stem = stem.encode()[:room].decode(errors="ignore")
    return f"{stem}.{extension}" if extension else stem


def _fitting(character: str) -> str:
    if character in "/\\":
        return "_"
    if unicodedata.category(character) in _CONTROLS:
        return " "
    return "" if unicodedata.bidirectional(character) in _TURNS else character


def check(name: str, head: bytes, size_bytes: int, *, most_bytes: int = MAX_FILE_BYTES) -> Taken:
    """How DingTalk takes a file, by its name and by what is in it.

    Args:
        name: A file's name, as ``checked_name`` allows it.
        head: Its first ``HEAD_BYTES``.
        size_bytes: All of it.
        most_bytes: The destination's own limit.

    Raises:
        Refused: Not as it is, but packed.
        InvalidJob: Never: it is empty.
    """
    if size_bytes == 0:
        raise InvalidJob("file", f"{name!r} is empty")
    taken = _taken_as(name, head)
    most_bytes = min(most_bytes, MAX_VOICE_BYTES) if taken.media_type == "voice" else most_bytes
    if size_bytes > most_bytes:
        raise Refused("file", too_large(name, most_bytes, size_bytes))
    return taken


def too_large(name: str, most_bytes: int, size_bytes: int | None = None) -> str:
    """The words for a file over the limit; its size where it is known."""
    found = f"has {size_bytes:,} bytes" if size_bytes is not None else "is too large"
    return f"{name!r} {found}; at most {most_bytes:,} ({most_bytes / 2**20:g} MB) can be shared there"


def extension_of(name: str) -> str:
    """The extension in lower case without its dot, as DingTalk spells it (``jpg``); empty where there is none."""
    found = _EXTENSION.search(name)
    extension = found[1].lower() if found and found.start() > 0 else ""
    return _SAME.get(extension, extension)


def _taken_as(name: str, head: bytes) -> Taken:
    named, found = extension_of(name), _found(head)
    if named in _MEDIA_TYPES:
        type_ = _agreed(name, named, found, head)
    elif found in _MEDIA_TYPES and (found not in _ZIPPED or not any(map(str.isalpha, named))):
        # "report" or "v1.2" says nothing about the type: what is in it does.
        type_, name = found, checked_name(f"{name}.{found}")
    else:
        known = ", ".join(extension for extensions in _EXTENSIONS.values() for extension in extensions)
        what = f"no .{named}" if named else "no file without one of its extensions"
        raise Refused("file", f"{name!r}: DingTalk takes {what} (it takes {known}); {_ZIP_HINT}")
    return Taken(name=name, type=type_, media_type=media_type_of(type_))


_ZIP_HINT = "zip=True (--zip) packs it in a .zip"


def _agreed(name: str, named: str, found: str, head: bytes) -> str:
    """The type, where name and content say the same or nothing."""
    if found == named or found == "":
        return named
    if found == _NOTHING and named in _UNMARKED:
        return named
    # Office files are zip or, older ones and those with a password, OLE; which one is in them shows only later.
    if (found in _ZIPPED and named in _ZIPPED | _OFFICE) or (found in {_OLE, "rtf"} and named in _OFFICE):
        return named
    if media_type_of(named) == media_type_of(found) != "file" and found in _MEDIA_TYPES:
        return found  # a picture under another picture's name is shown all the same
    what = _words(found, head)
    raise Refused("file", f"{name!r} is no {named}: it holds {what}; give its right name, or {_ZIP_HINT}")


_NOTHING = "nothing known"


def _words(found: str, head: bytes) -> str:
    if found != _NOTHING:
        return found if found == _OLE else f"a {found}"
    if head.lstrip()[:256].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page (of a login, or of an error?)"
    return "something else"


def _found(head: bytes) -> str:
    """What the content says: an extension, ``_OLE``, ``_NOTHING`` for no mark that is known, "" when nobody can tell."""
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _OLE
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head[4:8] == b"ftyp":
        return "mp4"  # by brand there are dozens, and DingTalk plays or refuses them itself
    if head.startswith(b"#!AMR"):
        return "amr"
    try:
        import filetype
    except ModuleNotFoundError:  # a producer may do without; the worker looks again
        return ""
    found = filetype.guess_extension(bytes(head[:HEAD_BYTES])) or _NOTHING
    return _SAME.get(found, found)
