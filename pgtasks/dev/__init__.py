"""What developers need and production does not: a PostgreSQL that starts by itself."""

from __future__ import annotations

from pgtasks.exceptions import PgtasksError

__all__ = ["EmbeddedPostgresError"]


# The module of exceptions is words alone: it needs neither the client nor a package, so
# that the supervisor, which has given up its rights, can still read what it imports.
class EmbeddedPostgresError(PgtasksError, RuntimeError):
    """The embedded PostgreSQL cannot be had; the message says what to do."""
