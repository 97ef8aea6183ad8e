"""The setting ``result_compression``: compressed results in Celery's own wrapping.

A stored result is one value, without headers that could tell how it was compressed, so the
method travels in front of it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["COMPRESSED_PAYLOAD_MAGIC", "compress_payload", "decompress_payload"]

#: What a compressed result begins with. No serializer writes a NUL first, so that older
#: results are never taken for compressed ones.
COMPRESSED_PAYLOAD_MAGIC = b"\x00celery-compressed\x00"


def compress_payload(payload: Any, compression: str) -> bytes:
    """Compress what a serializer has written, and say how.

    Args:
        payload: Text or bytes.
        compression: A method by kombu's name: ``gzip``, ``bzip2`` …
    """
    from kombu.compression import compress

    body, content_type = compress(payload, compression)
    return b"\x00".join((COMPRESSED_PAYLOAD_MAGIC[:-1], content_type.encode(), body))


def decompress_payload(payload: Any) -> Any:
    """Undo `compress_payload`, whatever the settings say; anything else is handed back."""
    if isinstance(payload, memoryview):
        payload = bytes(payload)
    if not isinstance(payload, (bytes, bytearray)):
        return payload
    if not payload.startswith(COMPRESSED_PAYLOAD_MAGIC):
        return payload
    from kombu.compression import decompress

    rest = bytes(payload[len(COMPRESSED_PAYLOAD_MAGIC) :])
    content_type, _, body = rest.partition(b"\x00")
    return decompress(body, content_type.decode())
