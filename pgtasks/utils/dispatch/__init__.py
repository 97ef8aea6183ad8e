"""Observers: see `pgtasks.utils.dispatch.signal`."""

from pgtasks.utils.dispatch.signal import Signal

__all__ = ["Signal"]
