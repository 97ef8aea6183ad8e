"""The key that signs jobs."""

from __future__ import annotations

from typing import Any

from pgtasks.security.utils import cryptography, insist_on_rsa, pss, reraise_errors

__all__ = ["PrivateKey"]


class PrivateKey:
    """A private RSA key.

    Args:
        key: It in PEM form.
        password: What it is encrypted with.

    Raises:
        SecurityError: It cannot be read, or is no RSA key.
    """

    def __init__(self, key: str | bytes, password: str | bytes | None = None) -> None:
        with reraise_errors("Invalid private key: {0!r}"):
            self._key = cryptography(
                "hazmat.primitives.serialization"
            ).load_pem_private_key(
                _bytes(key), password=None if password is None else _bytes(password)
            )
            insist_on_rsa(self._key, "RSAPrivateKey")

    def sign(self, data: str | bytes, digest: Any) -> bytes:
        """The signature of ``data``."""
        with reraise_errors("Unable to sign data: {0!r}"):
            signature: bytes = self._key.sign(_bytes(data), pss(digest), digest)
            return signature


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
