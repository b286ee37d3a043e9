"""Uploads: a multipart form with the file in ``media``.

https://open.dingtalk.com/document/development/upload-media-files
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from dingqueue_worker.sandbox.calls import Done, File, Refused
from dingqueue_worker.sandbox.organisation import Call, Route, new_key

_MIB = 1024 * 1024
#: Type -> most bytes, extensions.
TYPES: dict[str, tuple[int, frozenset[str]]] = {
    "image": (20 * _MIB, frozenset({"jpg", "jpeg", "gif", "png", "bmp"})),
    "voice": (2 * _MIB, frozenset({"amr", "mp3", "wav"})),
    "video": (20 * _MIB, frozenset({"mp4"})),
    "file": (20 * _MIB, frozenset({"doc", "docx", "xls", "xlsx", "ppt", "pptx", "zip", "pdf", "rar"})),
}
#: Not quoted, or quoted; a backslash inside a quoted name is kept as it is.
_PARAMETER = re.compile(r';\s*([\w*-]+)=(?:"((?:[^"\\]|\\.)*)"|([^;]*))')


@dataclass(slots=True)
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)

    def parameters(self) -> dict[str, str]:
        disposition = self.headers.get("content-disposition", "")
        return {
            found[1].lower(): found[2] if found[2] is not None else found[3]
            for found in _PARAMETER.finditer(disposition)
        }


def _upload(call: Call) -> Done:
    parts = _parts(call.request.content_type, call.request.body)
    named = {part.parameters().get("name", ""): part for part in parts}
    kind = call.query.get("type", [""])[0] or (
        named["type"].content.decode(errors="replace") if "type" in named else ""
    )
    if kind not in TYPES:
        raise Refused(40004, "不合法的媒体文件类型", f"type must be one of {', '.join(TYPES)}")
    part = named.get("media")
    if part is None:
        raise Refused(41005, "缺少媒体数据", f"the form has no part named media, only {', '.join(named) or 'nothing'}")
    parameters = part.parameters()
    name = parameters.get("filename", "")
    if not name:
        why = (
            "it has only filename*=, which DingTalk does not read: send the name as raw UTF-8"
            if "filename*" in parameters
            else "it has no filename"
        )
        raise Refused(41005, "缺少媒体数据", f"the part media is not taken for a file: {why}")
    most_bytes, extensions = TYPES[kind]
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    if extension not in extensions:
        reason = f"a {kind} must end in one of {', '.join(sorted(extensions))}; the name is {name[:80]!r}"
        raise Refused(40005, "不合法的文件类型", reason)
    content = bytes(part.content)
    if not content:
        raise Refused(44001, "空文件", "the file has no bytes")
    if len(content) > most_bytes:
        raise Refused(
            45001, "媒体文件大小超过限制", f"{len(content):,} bytes; a {kind} may have {most_bytes:,}", step="size"
        )
    media_id = f"@lAD{new_key('media', call.number, call.now_ms)[:32]}"
    digest = hashlib.sha256(content).hexdigest()
    file = File(
        media_id=media_id, name=name, kind=kind, content=content, sha256=digest, app=call.app.name, at_ms=call.now_ms,
        number=call.number,
    )  # fmt: skip
    call.org.keep_file(file)
    body = {"errcode": 0, "errmsg": "ok", "type": kind, "media_id": media_id, "created_at": call.now_ms}
    return Done(body=body, key=media_id, note=f"{name}, {len(content):,} bytes", record=file)


def _parts(content_type: str, body: bytes) -> list[_Part]:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        found = content_type.partition(";")[0] or "none"
        raise Refused(
            43008, "需要multipart方式", f"the content type must be multipart/form-data with a boundary, it is {found}"
        )
    parts: list[_Part] = []
    header, value, ended = bytearray(), bytearray(), []

    def end_of_header() -> None:
        parts[-1].headers[header.decode("latin-1").lower()] = value.decode(errors="replace")
        header.clear()
        value.clear()

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": lambda: parts.append(_Part()),
            "on_part_data": lambda data, start, end: parts[-1].content.extend(data[start:end]),
            "on_header_field": lambda data, start, end: header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": end_of_header,
            "on_end": lambda: ended.append(True),
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(43008, "需要multipart方式", f"the form cannot be read: {error}") from error
    if not ended:
        raise Refused(43008, "需要multipart方式", "the form is cut short: its last boundary is missing")
    return parts


ROUTES = (Route("POST", "/media/upload", _upload, way="upload", body="multipart"),)
