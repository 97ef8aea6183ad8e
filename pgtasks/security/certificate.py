"""Certificates: whose signatures are trusted."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pgtasks.exceptions import SecurityError
from pgtasks.security.utils import cryptography, insist_on_rsa, pss, reraise_errors

__all__ = ["CertStore", "Certificate", "FSCertStore"]


class Certificate:
    """An X.509 certificate of an RSA key.

    Args:
        cert: It in PEM form.

    Raises:
        SecurityError: It cannot be read, or is of another sort of key.
    """

    def __init__(self, cert: str | bytes) -> None:
        with reraise_errors("Invalid certificate: {0!r}"):
            data = cert.encode() if isinstance(cert, str) else cert
            self._cert = cryptography("x509").load_pem_x509_certificate(data)
            insist_on_rsa(self._cert.public_key(), "RSAPublicKey")

    def has_expired(self) -> bool:
        """Whether it is no longer valid."""
        end = getattr(self._cert, "not_valid_after_utc", None)
        if end is None:  # before cryptography 42
            end = self._cert.not_valid_after.replace(tzinfo=timezone.utc)
        return bool(datetime.now(timezone.utc) >= end)

    def get_pubkey(self) -> Any:
        """Its public key."""
        return self._cert.public_key()

    def get_serial_number(self) -> int:
        """Its number, which its issuer gave."""
        number: int = self._cert.serial_number
        return number

    def get_issuer(self) -> str:
        """Who issued it."""
        return " ".join(part.value for part in self._cert.issuer)

    def get_id(self) -> str:
        """Issuer and number, which no two certificates share."""
        return f"{self.get_issuer()} {self.get_serial_number()}"

    def verify(self, data: str | bytes, signature: bytes, digest: Any) -> None:
        """Check a signature.

        Raises:
            SecurityError: It is not of this key, or the certificate has expired.
        """
        if self.has_expired():
            raise SecurityError(
                f"Expired certificate: {self.get_id()!r} signed a job. Give its owner a new "
                f"one, and put that into security_cert_store."
            )
        signed = data.encode() if isinstance(data, str) else data
        with reraise_errors("Bad signature: {0!r}"):
            self.get_pubkey().verify(signature, signed, pss(digest), digest)


class CertStore:
    """The certificates that are trusted, by their ids."""

    def __init__(self) -> None:
        self._certs: dict[Any, Any] = {}

    def itercerts(self) -> Iterator[Any]:
        """The certificates."""
        return iter(self._certs.values())

    def __getitem__(self, id: str | bytes) -> Any:
        name = id.decode() if isinstance(id, bytes) else id
        try:
            return self._certs[name]
        except KeyError:
            raise SecurityError(
                f"Unknown certificate: {name!r} is not in security_cert_store."
            ) from None

    def add_cert(self, cert: Any) -> None:
        """Trust a certificate.

        Raises:
            SecurityError: There is one of that id.
        """
        id = cert.get_id()
        if id in self._certs:
            raise SecurityError(
                f"Duplicate certificate: {id!r} is there twice; remove one."
            )
        self._certs[id] = cert


class FSCertStore(CertStore):
    """The certificates in a folder, or of files that a pattern names.

    Args:
        path: The folder or the pattern.

    Raises:
        SecurityError: One cannot be read, has expired, or is there twice.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        pattern = os.path.join(path, "*") if os.path.isdir(path) else path
        for name in glob.glob(pattern):
            with open(name) as file:
                cert = Certificate(file.read())
            if cert.has_expired():
                raise SecurityError(
                    f"Expired certificate: {name}. Remove it from the folder."
                )
            self.add_cert(cert)
