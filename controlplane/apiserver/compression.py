"""gzip for large answers to clients that take it.

Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sized

from multidict import MultiMapping

THRESHOLD_BYTES = 128 * 1024
_LEVEL = 1
_AT_ONCE_BYTES = 1 << 20  # larger bodies are compressed in a thread


def worthwhile(body: Sized, headers: MultiMapping[str]) -> bool:
    """Whether an answer is to be compressed."""
    if len(body) < THRESHOLD_BYTES:
        return False
    return any(part.partition(";")[0].strip() == "gzip" for part in headers.get("Accept-Encoding", "").split(","))


async def gzipped(body: bytes) -> bytes:
    """The body as gzip."""
    if len(body) < _AT_ONCE_BYTES:
        return _gzip(body)
    return await asyncio.to_thread(_gzip, body)


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()
