"""Arguments and results as text or bytes for a row, and back.

JSON is kombu's, with dates, UUIDs, decimals and bytes in it, written by the standard
library where both would write the same: kombu is imported when the first value comes along
that needs it, or another serializer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from pgtasks.exceptions import PayloadTooLarge

__all__ = [
    "JSON",
    "Payload",
    "dump_arguments",
    "dumps",
    "is_signed",
    "load_arguments",
    "loads",
    "unpack",
]

JSON = "application/json"
SIGNED = "application/data"


class Payload(NamedTuple):
    """A job's arguments in the form of its columns.

    JSON stands in ``args`` and ``kwargs``; anything else, and what is compressed, in
    ``body`` as one list of both.
    """

    args: str
    kwargs: str
    body: bytes | None
    content_type: str
    content_encoding: str

    @property
    def size(self) -> int:
        """Bytes that it takes, more or less: JSON is written in ASCII."""
        return (
            len(self.body) if self.body is not None else len(self.args) + len(self.kwargs)
        )


# ── JSON ────────────────────────────────────────────────────────────────────────────────

# The standard library writes the same text as kombu for whatever it can write at all: both
# are the same encoder, which asks kombu's additions only where it is at a loss.
_encode = json.JSONEncoder().encode
_decode = json.JSONDecoder().decode


def dumps(value: Any) -> str:
    """Write ``value`` as kombu's JSON.

    Raises:
        EncodeError: It cannot be written, or could not be read again.
    """
    own = _registered()
    try:
        text = _encode(value) if own is None else _text(own.encoder(value))
    except (TypeError, ValueError, RecursionError, OverflowError):
        # A type that the standard library does not know; or an error, which kombu names.
        text = _kombu_dumps(value)
    if '"__type__"' in text:
        _refuse_disguise(text)
    return text


def _kombu_dumps(value: Any) -> str:
    from kombu.utils.json import dumps as kombu_dumps

    try:
        return str(kombu_dumps(value))
    except Exception as error:
        from pgtasks.exceptions import EncodeError

        raise EncodeError(
            f"{error or type(error).__name__}. JSON takes texts, numbers, lists, dicts "
            f"with text as keys, dates, UUIDs, decimals and bytes; pass an id in place of "
            f"an object, or choose another serializer (task_serializer, result_serializer)."
        ) from error


def _refuse_disguise(text: str) -> None:
    """Refuse a dict that looks like kombu's notation for a date and the like, and is none.

    kombu would write it and then not be able to read it: poison for whoever gets it.
    """
    from kombu.utils.json import loads as kombu_loads

    try:
        kombu_loads(text)
    except Exception as error:
        from pgtasks.exceptions import EncodeError

        raise EncodeError(
            f"A dict with the two keys '__type__' and '__value__' is how dates and the "
            f"like are written in JSON, and this one could not be read again: {error}. "
            f"Give it other keys."
        ) from error


def loads(text: str) -> Any:
    """Read kombu's JSON.

    Raises:
        DecodeError: It is none.
    """
    try:
        own = _registered()
        if own is not None:
            return own.decoder(text)
        if _is_plain(text):
            return _decode(text)
        from kombu.utils.json import loads as kombu_loads

        return kombu_loads(text)
    except Exception as error:
        from pgtasks.exceptions import DecodeError

        shown = text if len(text) <= 200 else f"{text[:200]}…"
        raise DecodeError(
            f"This is no JSON: {shown!r} ({error or type(error).__name__})"
        ) from error


def _is_plain(text: str) -> bool:
    """Whether nothing in it can be kombu's notation.

    That begins with the key ``__type__``, which a foreign writer may have spelled with
    escapes: then one of its letters, or the underscore, is there as a code point.
    """
    return (
        "__type__" not in text
        and "\\u005" not in text
        and "\\u006" not in text
        and "\\u007" not in text
    )


class _Codec(NamedTuple):
    encoder: Callable[[Any], Any]
    decoder: Callable[[str], Any]


def _registered() -> _Codec | None:
    """Answer what the program has put in place of kombu's JSON, if it has."""
    # Not imported yet, or just being by another thread: then nothing can be registered.
    registry = getattr(sys.modules.get("kombu.serialization"), "registry", None)
    standard: Any = sys.modules.get("kombu.utils.json")
    if registry is None or standard is None:
        return None
    encoder, decoder = registry._encoders.get("json"), registry._decoders.get(JSON)
    if encoder is None or decoder is None:
        return None
    if encoder.encoder is standard.dumps and decoder is standard.loads:
        return None
    return _Codec(encoder.encoder, decoder)


def _text(written: str | bytes) -> str:
    return written if isinstance(written, str) else written.decode()


# ── arguments ───────────────────────────────────────────────────────────────────────────


def dump_arguments(
    args: Any,
    kwargs: Any,
    serializer: str | None = "json",
    compression: str | None = None,
    seal: Mapping[str, Any] | None = None,
) -> Payload:
    """Serialize the arguments of a task.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        serializer: Name or MIME type.
        compression: Method, as kombu names it.
        seal: What else a signature is to cover, where the serializer signs.

    Raises:
        SerializerNotInstalled: kombu knows no serializer of that name.
        EncodeError: The serializer cannot write them.
    """
    if serializer in (None, "json", JSON):
        written = Payload(
            dumps(args) if args else "[]",
            dumps(kwargs) if kwargs else "{}",
            None,
            JSON,
            "utf-8",
        )
        if not compression:
            return written
        return _compressed(f"[{written.args}, {written.kwargs}]", JSON, compression)
    from kombu import serialization

    parts: list[Any] = [list(args or ()), dict(kwargs or {})]
    if seal is not None and is_signed(serializer):
        parts.append(dict(seal))
    content_type, encoding, data = serialization.dumps(parts, serializer)
    if compression:
        return _compressed(data, content_type, compression)
    body = data.encode() if isinstance(data, str) else bytes(data)
    return Payload("[]", "{}", body, content_type, encoding)


def _compressed(data: str | bytes, content_type: str, compression: str) -> Payload:
    from kombu.compression import compress

    try:
        body, method = compress(data, compression)
    except KeyError:
        from pgtasks.exceptions import ImproperlyConfigured

        raise ImproperlyConfigured(
            f"compression={compression!r} is not known: use gzip, bzip2, or what "
            f"kombu.compression.register() was told of."
        ) from None
    return Payload("[]", "{}", body, content_type, method)


def load_arguments(
    args: str | None,
    kwargs: str | None,
    body: bytes | None,
    content_type: str | None,
    content_encoding: str | None,
    accept: Collection[str],
    most: int | None = None,
    seal: Mapping[str, Any] | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """Read the arguments of a task out of its columns.

    Args:
        args: Column of that name.
        kwargs: Column of that name.
        body: Column of that name.
        content_type: Column of that name.
        content_encoding: Column of that name.
        accept: MIME types that may be read.
        most: Bytes that they may take after decompression.
        seal: What a signature must cover besides; None does not look.

    Raises:
        ContentDisallowed: The content type is not among ``accept``.
        DecodeError: They cannot be read, or are no list and no dict.
        SecurityError: They are signed, and what else was signed is not what is there.
    """
    if body is None and content_type == JSON and JSON in accept:
        if args == "[]" and kwargs == "{}":
            return [], {}
        found = [loads(args or ""), loads(kwargs or "")]
    else:
        found = unpack(body, content_type, content_encoding, accept, most)
    if not isinstance(found, (list, tuple)) or len(found) < 2:
        raise _decode_error(
            f"a list of args and kwargs was expected, not {type(found).__name__}"
        )
    if seal is not None and is_signed(content_type):
        _check_seal(found[2] if len(found) > 2 else {}, seal)
    positional, keywords = found[0], found[1]
    if not isinstance(positional, (list, tuple)):
        raise _decode_error(f"args must be a list, not {type(positional).__name__}")
    if not isinstance(keywords, dict):
        raise _decode_error(f"kwargs must be an object, not {type(keywords).__name__}")
    return list(positional), keywords


def is_signed(serializer: str | None) -> bool:
    """Whether a serializer, by its name or MIME type, signs what it writes."""
    return serializer in ("auth", SIGNED)


def _check_seal(signed: Any, present: Mapping[str, Any]) -> None:
    for name, value in present.items():
        if not isinstance(signed, dict) or signed.get(name) != value:
            from pgtasks.exceptions import SecurityError

            raise SecurityError(
                f"The arguments are signed, but not for this {name}: somebody has changed "
                f"the job, or has put these arguments into another one."
            )


def _decode_error(why: str) -> Any:
    from pgtasks.exceptions import DecodeError

    return DecodeError(f"The arguments cannot be read: {why}.")


def unpack(
    body: bytes | None,
    content_type: str | None,
    content_encoding: str | None,
    accept: Collection[str],
    most: int | None = None,
) -> Any:
    """Read what another serializer has written, or what is compressed.

    Raises:
        ContentDisallowed: The content type is not among ``accept``.
        DecodeError: It cannot be read.
    """
    from kombu import serialization

    from pgtasks.exceptions import ContentDisallowed, DecodeError

    if not content_type:
        raise _decode_error("there is no content type")
    if content_type not in accept:
        raise ContentDisallowed(
            f"Refusing to read content of type {content_type}: it is not among the "
            f"accept_content of this process. Add it there if its senders can be trusted."
        )
    if body is None:
        raise _decode_error(f"there is no body of type {content_type}")
    try:
        if content_encoding and content_encoding.startswith("application/"):
            body, content_encoding = _decompress(body, content_encoding, most), "binary"
        if content_type == JSON:
            return loads(bytes(body).decode())
        return serialization.loads(body, content_type, content_encoding, accept=accept)
    except (DecodeError, PayloadTooLarge):
        raise
    except Exception as error:
        raise DecodeError(
            f"The content of type {content_type} cannot be read: "
            f"{type(error).__name__}: {error}"
        ) from error


def _decompress(body: bytes, method: str, most: int | None) -> bytes:
    """Decompress, but not more than ``most``: ten kilobytes can hide ten gigabytes."""
    opened: Any = None
    if method == "application/x-gzip":
        import zlib

        opened = zlib.decompressobj()
    elif method == "application/x-bz2":
        import bz2

        opened = bz2.BZ2Decompressor()
    elif method == "application/x-lzma":
        import lzma

        opened = lzma.LZMADecompressor()
    elif method == "application/zstd" and sys.version_info >= (3, 14):
        from compression import zstd

        opened = zstd.ZstdDecompressor()
    elif method == "application/zstd":
        from backports import zstd

        opened = zstd.ZstdDecompressor()
    if opened is None or most is None:
        from kombu.compression import decompress

        data = bytes(decompress(body, method))
    else:
        data = opened.decompress(body, most + 1)
    if most is not None and len(data) > most:
        raise PayloadTooLarge(
            f"The arguments take more than {most:,} bytes when they are decompressed, the "
            f"limit of task_body_max_size."
        )
    return data
