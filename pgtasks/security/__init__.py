"""Signed jobs: no arguments are read that nobody known has signed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kombu.serialization import (
    disable_insecure_serializers as _disable_insecure_serializers,
)
from kombu.serialization import registry

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.security.serialization import register_auth

__all__ = ["disable_untrusted_serializers", "setup_security"]

WANTED = {"task_serializer": "auth", "accept_content": ["auth"]}
FILES = ("security_key", "security_certificate", "security_cert_store")


def setup_security(
    allowed_serializers: Iterable[str] | None = None,
    key: Any = None,
    key_password: bytes | None = None,
    cert: Any = None,
    store: Any = None,
    digest: str | None = None,
    serializer: str = "json",
    app: Any = None,
) -> None:
    """Sign jobs, and accept signed ones only; `Celery.setup_security` has the meaning.

    Raises:
        ImproperlyConfigured: The settings do not ask for it, or files are not named.
    """
    if app is None:
        from pgtasks import current_app

        app = current_app._get_current_object()
    _disable_insecure_serializers(allowed_serializers)
    conf = app.conf
    told = {name: conf[name] for name in WANTED}
    if told != WANTED:
        shown = ", ".join(f"{name} = {value!r}" for name, value in WANTED.items())
        raise ImproperlyConfigured(
            f"Signed jobs need the settings {shown}; they are {told}. Set them before "
            f"setup_security() is called."
        )
    key = key or conf.security_key
    key_password = key_password or conf.security_key_password
    cert = cert or conf.security_certificate
    store = store or conf.security_cert_store
    missing = [
        name for name, value in zip(FILES, (key, cert, store), strict=True) if not value
    ]
    if missing:
        raise ImproperlyConfigured(
            f"Signed jobs need a private key, its certificate and the folder of those to "
            f"trust: set {', '.join(missing)}, or give them to setup_security()."
        )
    with open(key) as of_key, open(cert) as of_cert:
        register_auth(
            of_key.read(),
            key_password,
            of_cert.read(),
            store,
            digest or conf.security_digest,
            serializer,
        )
    registry._set_default_serializer("auth")


def disable_untrusted_serializers(whitelist: Iterable[str] | None = None) -> None:
    """Switch off all serializers in this process but these."""
    _disable_insecure_serializers(allowed=whitelist)
