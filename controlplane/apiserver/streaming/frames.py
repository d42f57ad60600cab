"""SPDY/3.1 frames: made and taken apart, nothing else. Header blocks are only made; those received are skipped.

Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/, sections 2.2, 2.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
DATA = 0
FIN = 0x01
LARGEST_BYTES = (1 << 24) - 1
"""Of one frame's payload."""

_VERSION = 0x8003
_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    " authorization cache-control connection content-base content-encoding content-language content-length"
    " content-location content-md5 content-range content-type date etag expect expires from host if-match"
    " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status"
)
_MORE_NAMES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _counted(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


DICTIONARY = b"".join(_counted(name.encode()) for name in (*_NAMES.split(), *_MORE_NAMES)) + _TEXT.encode()
"""What header blocks are compressed with."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: of data (kind DATA), or of control."""

    kind: int
    stream: int
    flags: int
    payload: bytes


def parse(buffer: bytearray) -> Iterator[Frame]:
    """Take the whole frames off the front of the buffer.

    Raises:
        ValueError: this is not SPDY/3.
    """
    while len(buffer) >= 8:
        first, second = struct.unpack_from("!II", buffer)
        size = second & 0xFFFFFF
        if len(buffer) < 8 + size:
            return
        payload = bytes(memoryview(buffer)[8 : 8 + size])
        del buffer[: 8 + size]
        flags = second >> 24
        if not first >> 31:
            yield Frame(DATA, first, flags, payload)
            continue
        if first >> 16 != _VERSION:
            raise ValueError("not a frame of SPDY/3")
        stream = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF if size >= 4 else 0
        yield Frame(first & 0xFFFF, stream, flags, payload)


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """A control frame."""
    return struct.pack("!HHI", _VERSION, kind, flags << 24 | len(payload)) + payload


def data(stream: int, payload: bytes, *, fin: bool = False) -> bytes:
    """Data of a stream, at most LARGEST_BYTES; `fin`: the last of this side."""
    return struct.pack("!II", stream, (FIN if fin else 0) << 24 | len(payload)) + payload


class Headers:
    """Writes header blocks: one context for each connection, for every block builds on those before."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Mapping[str, str]) -> bytes:
        """The frame that opens a stream."""
        pairs = [_counted(name.lower().encode()) + _counted(value.encode()) for name, value in headers.items()]
        block = struct.pack("!I", len(headers)) + b"".join(pairs)
        packed = self._zlib.compress(block) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return control(SYN_STREAM, struct.pack("!IIH", stream, 0, 0) + packed)
