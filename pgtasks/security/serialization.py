"""The serializer ``auth``: what another one wrote, with who signed it and the signature."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import Any

from kombu.serialization import dumps, loads, registry

from pgtasks.exceptions import SecurityError
from pgtasks.security.certificate import Certificate, FSCertStore
from pgtasks.security.key import PrivateKey
from pgtasks.security.utils import get_digest_algorithm, reraise_errors

__all__ = ["DEFAULT_SEPARATOR", "SecureSerializer", "register_auth"]

DEFAULT_SEPARATOR = b"\x00\x01"
"""What stands between the parts, each of which is base64 and cannot contain it."""


class SecureSerializer:
    """Signs what it writes, and reads nothing that nobody known has signed.

    Args:
        key: Signs.
        cert: The certificate of that key.
        cert_store: Those to trust.
        digest: What is signed.
        serializer: How data are written before they are signed.
    """

    def __init__(
        self,
        key: Any = None,
        cert: Any = None,
        cert_store: Any = None,
        digest: str = "sha256",
        serializer: str = "json",
    ) -> None:
        self._key = key
        self._cert = cert
        self._cert_store = cert_store
        self._digest = get_digest_algorithm(digest)
        self._serializer = serializer

    def serialize(self, data: Any) -> str:
        """Write and sign.

        Raises:
            SecurityError: It cannot be signed.
        """
        with reraise_errors("Unable to serialize: {0!r}", (Exception,)):
            content_type, encoding, body = dumps(data, serializer=self._serializer)
            # Signed with what it is: JSON must not be read as pickle by a change beside it.
            signed = _packed(content_type, encoding, body)
            signature = self._key.sign(signed, self._digest)
            return b64encode(_packed(self._cert.get_id(), signature, signed)).decode()

    def deserialize(self, data: str | bytes) -> Any:
        """Check the signature, then read.

        Raises:
            SecurityError: It is not signed, or not by anyone known.
        """
        with reraise_errors("Unable to deserialize: {0!r}", (Exception,)):
            signer, signature, signed = _unpacked(_decoded(_bytes(data)), 3)
            self._cert_store[signer].verify(signed, signature, self._digest)
            # Whose content it is has been proved: what others may not send, this may be.
            content_type, encoding, body = _unpacked(signed, 3)
            return loads(body, content_type.decode(), encoding.decode(), force=True)


def _packed(*parts: str | bytes) -> bytes:
    return DEFAULT_SEPARATOR.join(b64encode(_bytes(part)) for part in parts)


def _unpacked(packed: bytes, count: int) -> list[bytes]:
    parts = [_decoded(part) for part in packed.split(DEFAULT_SEPARATOR)]
    if len(parts) != count:
        raise SecurityError(f"The content has {len(parts)} parts in place of {count}")
    return parts


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except NotBase64 as error:
        raise SecurityError("The content is not of the serializer 'auth'") from error


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def register_auth(
    key: str | bytes | None = None,
    key_password: str | bytes | None = None,
    cert: str | bytes | None = None,
    store: str | None = None,
    digest: str = "sha256",
    serializer: str = "json",
) -> None:
    """Make the serializer ``auth`` known to kombu.

    Args:
        key: Private key in PEM form.
        key_password: What it is encrypted with.
        cert: Its certificate in PEM form.
        store: Folder or pattern of the certificates to trust.
        digest: What is signed.
        serializer: How data are written before they are signed.
    """
    signs = SecureSerializer(
        key and PrivateKey(key, password=key_password),
        cert and Certificate(cert),
        None if store is None else FSCertStore(store),
        digest,
        serializer,
    )
    registry.register(
        "auth",
        signs.serialize,
        signs.deserialize,
        content_type="application/data",
        content_encoding="utf-8",
    )
