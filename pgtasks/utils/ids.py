"""Ids for jobs: UUIDs in the order of their making."""

from __future__ import annotations

from os import urandom
from time import time_ns

__all__ = ["time_ordered_uuid"]


def time_ordered_uuid() -> str:
    """A UUID of version 7, as text.

    It begins with the time, so that new rows are neighbours in the index on ids, where
    random ones would touch a page each. The last 62 bits are random and cannot be guessed.
    """
    milliseconds, rest = divmod(time_ns(), 1_000_000)
    tail = int.from_bytes(urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    text = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
