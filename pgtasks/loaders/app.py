"""The loader of applications that the program makes itself."""

from __future__ import annotations

from pgtasks.loaders.base import BaseLoader

__all__ = ["AppLoader"]


class AppLoader(BaseLoader):
    """Takes the configuration that the application is given."""
