"""The loader of the application that exists when the program makes none."""

from __future__ import annotations

import os
import warnings
from typing import Any

from pgtasks.exceptions import NotConfigured
from pgtasks.loaders.base import BaseLoader
from pgtasks.utils.collections import DictAttribute
from pgtasks.utils.serialization import strtobool

__all__ = ["DEFAULT_CONFIG_MODULE", "Loader"]

DEFAULT_CONFIG_MODULE = "celeryconfig"

#: Warn when there is no configuration module.
C_WNOCONF = strtobool(os.environ.get("C_WNOCONF", False))


class Loader(BaseLoader):
    """Takes the configuration from the module ``celeryconfig``, if there is one."""

    def setup_settings(self, settingsdict: Any) -> Any:
        """Answer a module or an object as a mapping."""
        return DictAttribute(settingsdict)

    def read_configuration(self, fail_silently: Any = True) -> Any:
        """Read the module that ``CELERY_CONFIG_MODULE`` names, else ``celeryconfig``.

        Args:
            fail_silently: Answer an empty configuration if there is none.
        """
        name = os.environ.get("CELERY_CONFIG_MODULE", DEFAULT_CONFIG_MODULE)
        try:
            module = self._import_config_module(name)
        except ImportError:
            if not fail_silently:
                raise
            if C_WNOCONF and not os.environ.get("FORKED_BY_MULTIPROCESSING"):
                warnings.warn(
                    f"No module {name!r} found: put one on the Python path, or name "
                    f"another in CELERY_CONFIG_MODULE.",
                    NotConfigured,
                    stacklevel=2,
                )
            return self.setup_settings({})
        self.configured = True
        return self.setup_settings(module)
