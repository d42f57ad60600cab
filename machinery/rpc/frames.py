"""HTTP/2's frames and header blocks, as far as a client of gRPC needs them.

Source: RFC 9113, section 4 and 6; RFC 7541; gRPC over HTTP2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError

from machinery.rpc.status import Code, RpcError

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

REFUSED_STREAM: Final = 7
CANCEL: Final = 8

HEAD_BYTES: Final = 9
LARGEST_WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535
MOST_FRAME_BYTES: Final = 16_384  # what we take, and what a server takes before it says otherwise

_ENABLE_PUSH, _MOST_STREAMS, _FIRST_WINDOW, _MOST_FRAME = 2, 3, 4, 5

_HEAD = Struct(">HBBBI")  # length in 16 + 8 bits, type, flags, stream
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    length = len(payload)
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload of this length."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def window_update(stream: int, increment: int) -> bytes:
    """More may be sent to us: on a stream, or (0) on the whole connection."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def reset(stream: int, error: int) -> bytes:
    """A stream is of no interest any more."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(error))


def number(payload: bytes) -> int:
    """The 31 bits at the start of a payload. Raises RpcError."""
    if len(payload) < 4:
        raise broken("a frame is too short")
    return int(_NUMBER.unpack_from(payload)[0]) & LARGEST_WINDOW


def preface() -> bytes:
    """What a client says first: no pushes, and windows as large as they can be."""
    settings = _SETTING.pack(_ENABLE_PUSH, 0) + _SETTING.pack(_FIRST_WINDOW, LARGEST_WINDOW)
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return hello + frame(SETTINGS, 0, 0, settings) + window_update(0, LARGEST_WINDOW - FIRST_WINDOW)


class PeerSettings:
    """What the server has asked for."""

    __slots__ = ("first_window", "most_frame_bytes", "most_streams")

    def __init__(self) -> None:
        self.first_window = FIRST_WINDOW
        self.most_frame_bytes = MOST_FRAME_BYTES
        self.most_streams = LARGEST_WINDOW

    def take(self, payload: bytes) -> None:
        """Take over a SETTINGS frame. Raises RpcError."""
        if len(payload) % 6:
            raise broken("a SETTINGS frame of odd length")
        for name, value in _SETTING.iter_unpack(payload):
            if name == _FIRST_WINDOW:
                if value > LARGEST_WINDOW:
                    raise broken("a window that is too large")
                self.first_window = value
            elif name == _MOST_FRAME:
                self.most_frame_bytes = value
            elif name == _MOST_STREAMS:
                self.most_streams = value


def without_padding(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame itself. Raises RpcError."""
    first, padding = 0, 0
    if flags & PADDED:
        if not payload:
            raise broken("a padded frame without padding")
        first, padding = 1, payload[0]
    if flags & PRIORITY:
        first += 5
    if first + padding > len(payload):
        raise broken("more padding than frame")
    return payload[first : len(payload) - padding]


def request_block(path: str, authority: str, secure: bool) -> bytes:
    """The header block of a call: literals only, so that it is the same for each call of a method."""
    headers = [
        (":method", "POST"),
        (":scheme", "https" if secure else "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-python-navarch"),
    ]
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in headers]))


class HeaderBlocks:
    """Reads the header blocks of one connection, in their order.

    A block of nothing but references to the table (RFC 7541, 6.1) leaves the table as it is, and servers send the same
    few again and again: those are read once for each state of the table.
    """

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._known: dict[bytes, Mapping[str, str]] = {}

    def read(self, block: bytes) -> Mapping[str, str]:
        """Names and values; shared. Raises RpcError."""
        found = self._known.get(block)
        if found is None:
            try:
                decoded: Sequence[tuple[str, str]] = [(str(k), str(v)) for k, v in self._decoder.decode(block)]
            except (HPACKError, UnicodeDecodeError) as exc:
                raise broken(f"headers that can't be read: {exc}") from exc
            found = dict(decoded)
            if _only_references(block):
                self._known[block] = found
            else:
                self._known.clear()
        return found


def _only_references(block: bytes) -> bool:
    return len(block) <= 8 and all(byte > 0x80 and byte != 0xFF for byte in block)


def broken(why: str) -> RpcError:
    """The error for a server that does not keep to the protocol."""
    return RpcError(Code.INTERNAL, f"HTTP/2: {why}")
