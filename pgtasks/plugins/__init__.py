"""What a worker does on a timer, beside running jobs: `Plugin`, and those of the house."""

from pgtasks.plugins.base import Plugin

__all__ = ["Plugin"]
