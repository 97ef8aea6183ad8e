"""Looking at applications: their reports, their secrets, where they are found."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pgtasks.app.defaults import _TO_NEW_KEY, _TO_OLD_KEY
from pgtasks.app.settings import Settings, detect_settings
from pgtasks.utils import imports

if TYPE_CHECKING:
    from pgtasks.app.base import Celery

__all__ = [
    "AppPickler",
    "Settings",
    "appstr",
    "bugreport",
    "detect_settings",
    "filter_hidden_settings",
    "find_app",
    "sanitize_url",
]


def appstr(app: Celery) -> str:
    """Tell an application from others."""
    return f"{app.main or '__main__'} at {id(app):#x}"


def _new_key_to_old(key: str) -> str:
    return _TO_OLD_KEY.get(key, key)


def _old_key_to_new(key: str) -> str:
    return _TO_NEW_KEY.get(key, key)


# ── secrets ─────────────────────────────────────────────────────────────────────────────

_MASK = "*" * 8

HIDDEN_SETTINGS = re.compile(
    "API|TOKEN|KEY|SECRET|PASS|PROFANITIES_LIST|SIGNATURE|DATABASE|BEAT_DBURI",
    re.IGNORECASE,
)

#: URLs and harmless names, which are worth seeing when something does not work.
_URLS = re.compile(
    r"(broker(_read|_write)?|database(_direct)?)_url$|backend", re.IGNORECASE
)
_HARMLESS = {"database_schema", "database_create_tables_at_setup"}


def filter_hidden_settings(conf: Mapping[Any, Any]) -> dict[Any, Any]:
    """Answer settings with what looks like a secret masked, also inside of dicts."""

    def censored(key: Any, value: Any) -> Any:
        if isinstance(value, Mapping):
            return filter_hidden_settings(value)
        if not isinstance(key, str) or key.lower() in _HARMLESS:
            return value
        if _URLS.search(key):
            if isinstance(value, (list, tuple)):
                return [sanitize_url(each) for each in value]
            return sanitize_url(value)
        if HIDDEN_SETTINGS.search(key):
            return _MASK if value else value
        return value

    return {key: censored(key, value) for key, value in conf.items()}


def sanitize_url(url: Any, mask: str = _MASK) -> Any:
    """Answer a URL without its passwords.

    Several servers may stand in one URL, as those of memcached, MongoDB and Sentinel do,
    and a password may hold the signs that separate them. Where that cannot be told apart,
    too much is masked rather than too little.

    Args:
        url: The URL; anything else is answered as it is.
        mask: What to put in place of a password.
    """
    if not url or not isinstance(url, str):
        return url
    try:
        return _sanitized(url, mask)
    except Exception:
        # Whatever has gone wrong here, the URL must not be shown whole.
        text = str.__str__(url)
        if "@" in text and "://" in text:
            return re.sub(r"(://[^:@/]*:)[^@/]*@", rf"\g<1>{mask}@", text)
        return "<unparsable url>"


def _sanitized(url: str, mask: str) -> str:
    if "://" not in url:
        return re.sub(r"(\bpassword\s*=\s*)('[^']*'|\S+)", rf"\g<1>{mask}", url)
    parts = url.split(";")
    if any("://" in part for part in parts[1:]):
        return ";".join(_sanitized(part.strip(), mask) for part in parts)
    scheme, _, rest = url.partition("://")
    if scheme == "azureblockblob":
        return f"{scheme}://{_sanitized_azure(rest, mask)}"
    end = re.search(r"[/?#]|$", rest)
    cut = end.start() if end else len(rest)
    authority, tail = rest[:cut], rest[cut:]
    tail = re.sub(r"([?&](?:ssl)?password=)[^&#]*", rf"\g<1>{mask}", tail)
    return f"{scheme}://{_sanitized_authority(authority, mask)}{tail}"


def _sanitized_authority(authority: str, mask: str) -> str:
    separator = next((sign for sign in ";," if sign in authority), None)
    servers = (
        [s for s in map(str.strip, authority.split(separator)) if s] if separator else []
    )
    if "@" not in authority:
        return separator.join(servers) if separator else authority
    if len(servers) > 1 and all(map(_is_server, servers)):
        assert separator is not None
        return separator.join(_masked_server(server, mask) for server in servers)
    return _masked_server(authority, mask)


def _is_server(text: str) -> bool:
    """Whether this is a server, and not a piece of a password with a separator in it."""
    user, at, _ = text.rpartition("@")
    return ":" in user if at else not text.startswith(":")


def _masked_server(server: str, mask: str) -> str:
    user, at, host = server.rpartition("@")
    if not at:
        return server
    if ":" in user:
        return f"{user.partition(':')[0]}:{mask}@{host}"
    return f"{mask if '@' in user else user}@{host}"


def _sanitized_azure(connection: str, mask: str) -> str:
    # Not a URL but key=value pairs, whose values may hold any sign but a semicolon.
    def pair(text: str) -> str:
        key, equals, value = text.partition("=")
        if equals and key.strip().lower() in ("accountkey", "sharedaccesssignature"):
            return f"{key}={mask}"
        value = re.sub(r"([?&]sig=)[^&;#]*", rf"\g<1>{mask}", value, flags=re.IGNORECASE)
        return f"{key}{equals}{value}"

    return ";".join(map(pair, connection.split(";")))


# ── reports ─────────────────────────────────────────────────────────────────────────────

BUGREPORT_INFO = """
software -> pgtasks:{pgtasks} py:{python}
            psycopg:{psycopg} kombu:{kombu}
platform -> system:{system} arch:{arch}
            kernel version:{kernel} imp:{implementation}
loader   -> {loader}
settings -> transport:{transport} results:{results}

{settings}
"""


def bugreport(app: Celery) -> str:
    """Describe an application and what it runs on, for a bug report."""
    import platform

    from pgtasks import __version__

    conf = app.conf
    return BUGREPORT_INFO.format(
        pgtasks=__version__,
        python=platform.python_version(),
        psycopg=_version("psycopg"),
        kombu=_version("kombu"),
        system=platform.system(),
        arch=", ".join(filter(None, platform.architecture())),
        kernel=platform.release(),
        implementation=platform.python_implementation(),
        loader=imports.qualname(type(app.loader)),
        transport=sanitize_url(conf.broker_url) or "default",
        results=sanitize_url(conf.result_backend) or "default",
        settings=conf.humanize(),
    )


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


# ── finding and pickling ────────────────────────────────────────────────────────────────


def find_app(
    app: str,
    symbol_by_name: Callable[..., Any] = imports.symbol_by_name,
    imp: Callable[..., Any] = imports.import_from_cwd,
) -> Any:
    """Find the application that ``-A`` names.

    ``proj`` may be a module with an ``app`` or a ``celery``, a package whose module
    ``proj.celery`` has one, or a module with any application in it; ``proj:name`` says
    exactly.

    Args:
        app: The name.
        symbol_by_name: Finds a symbol.
        imp: Imports a module.

    Raises:
        AttributeError: The module holds no application.
    """
    try:
        found = symbol_by_name(app, imp=imp)
    except AttributeError:
        # The last word is a module that its package has not imported.
        found = imp(app)
    if not isinstance(found, ModuleType) or ":" in app:
        return found
    for name in ("app", "celery"):
        candidate = getattr(found, name, None)
        if candidate is not None and not isinstance(candidate, ModuleType):
            return candidate
    if hasattr(found, "__path__"):
        submodule = f"{app}.celery"
        try:
            return find_app(submodule, symbol_by_name=symbol_by_name, imp=imp)
        except ImportError as error:
            # No such module is fine; one that fails to import is what must be told.
            if error.name not in (submodule, None):
                raise
    Celery = sys.modules["pgtasks.app.base"].Celery
    for candidate in vars(found).values():
        if isinstance(candidate, Celery):
            return candidate
    raise AttributeError(
        f"Module {app!r} holds no application: make one there, app = Celery({app!r}), or "
        f"name it as -A module:attribute."
    )


class AppPickler:
    """Rebuilds applications whose class has a ``__reduce_args__`` of its own."""

    def __call__(self, cls: type[Celery], *args: Any) -> Celery:
        """Rebuild an application."""
        kwargs = self.build_kwargs(*args)
        app = self.construct(cls, **kwargs)
        self.prepare(app, **kwargs)
        return app

    def prepare(self, app: Celery, **kwargs: Any) -> None:
        """Put the changes into the new application's settings."""
        app.conf.update(kwargs["changes"])

    def build_kwargs(self, *args: Any) -> dict[str, Any]:
        """Answer the arguments of the new application."""
        return self.build_standard_kwargs(*args)

    def build_standard_kwargs(
        self,
        main: Any,
        changes: Any,
        loader: Any,
        backend: Any,
        amqp: Any,
        events: Any,
        log: Any,
        control: Any,
        accept_magic_kwargs: Any,
        config_source: Any = None,
        config_source_silent: bool = False,
    ) -> dict[str, Any]:
        """Answer the arguments by name that Celery pickles by position."""
        return {
            "main": main,
            "changes": changes,
            "loader": loader,
            "backend": backend,
            "amqp": amqp,
            "events": events,
            "log": log,
            "control": control,
            "set_as_current": False,
            "config_source": config_source,
            "config_source_silent": config_source_silent,
        }

    def construct(self, cls: type[Celery], **kwargs: Any) -> Celery:
        """Make the new application."""
        return cls(**kwargs)


def _unpickle_app(cls: type[Celery], pickler: type[AppPickler], *args: Any) -> Celery:
    return pickler()(cls, *args)


def _unpickle_app_v2(cls: type[Celery], kwargs: dict[str, Any]) -> Celery:
    kwargs["set_as_current"] = False
    return cls(**kwargs)
