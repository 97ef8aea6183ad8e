"""The package that does the arithmetic, and its errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from pgtasks.exceptions import ImproperlyConfigured, SecurityError

__all__ = ["cryptography", "get_digest_algorithm", "reraise_errors"]


def cryptography(module: str) -> Any:
    """A module of the package cryptography, which only signing needs.

    Raises:
        ImproperlyConfigured: It is not installed.
    """
    try:
        return import_module(f"cryptography.{module}")
    except ImportError as error:
        raise ImproperlyConfigured(
            "Signed jobs need the package cryptography, which is not installed here. "
            "Install it: pip install cryptography"
        ) from error


def get_digest_algorithm(digest: str = "sha256") -> Any:
    """What a signature is made over, by its name.

    Raises:
        AttributeError: There is none of that name.
    """
    return getattr(cryptography("hazmat.primitives.hashes"), digest.upper())()


def pss(digest: Any) -> Any:
    """How a signature is padded."""
    padding = cryptography("hazmat.primitives.asymmetric.padding")
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.MAX_LENGTH)


def insist_on_rsa(key: Any, kind: str) -> None:
    """Refuse a key of another sort.

    Raises:
        ValueError: It is one.
    """
    rsa = cryptography("hazmat.primitives.asymmetric.rsa")
    if not isinstance(key, getattr(rsa, kind)):
        raise ValueError(f"Only RSA keys can sign jobs, and this is a {type(key).__name__}")


@contextmanager
def reraise_errors(
    msg: str = "{0!r}", errors: tuple[type[BaseException], ...] | None = None
) -> Iterator[None]:
    """Raise what goes wrong in a block as `SecurityError`.

    Args:
        msg: Its text, with ``{0}`` for the error.
        errors: Which errors; by default those that bad keys and signatures cause.

    Raises:
        SecurityError: One of them was raised.
    """
    if errors is None:
        theirs = cryptography("exceptions")
        errors = (
            ValueError,
            TypeError,
            theirs.InvalidSignature,
            theirs.UnsupportedAlgorithm,
        )
    try:
        yield
    except errors as error:
        raise SecurityError(msg.format(error)) from error
