"""What developers need and production does not: a PostgreSQL that starts by itself."""

from __future__ import annotations

__all__ = ["EmbeddedPostgresError"]


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be had; the message says what to do."""
