"""The command ``amqp``, under the path that it has in Celery: ``celery.bin.amqp``."""

from __future__ import annotations

from pgtasks.cli.amqp import amqp

__all__ = ["amqp"]
