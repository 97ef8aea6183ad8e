"""Sets the clock of this process, once a test writes into a file by how much.

Python imports a module of this name as it starts, before everything else. All that
programs usually ask is replaced; the clocks that cannot be set stay as they are.
"""

import datetime
import os
import time

_path = os.environ["BAD_INPUTS_CLOCK"]
_real_time, _real_datetime = time.time, datetime.datetime


def _shift() -> float:
    try:
        with open(_path) as file:
            return float(file.read() or 0)
    except OSError:
        return 0.0


def _time() -> float:
    return _real_time() + _shift()


class _Kind(type):
    # What C code makes is of the real class, and must pass for one of ours.
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _real_datetime)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, _real_datetime)


class _Datetime(_real_datetime, metaclass=_Kind):
    @classmethod
    def now(cls, tz=None):
        return _real_datetime.fromtimestamp(_time(), tz)

    @classmethod
    def today(cls):
        return cls.now()

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)


time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
datetime.datetime = _Datetime
