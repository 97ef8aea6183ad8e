"""What the child processes of a worker in a test log, brought to the test's process.

There ``caplog`` and whatever else a test gives the loggers see it, as they see what the
worker's own thread logs.
"""

from __future__ import annotations

import copy
import logging
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pgtasks import signals

__all__ = ["ChildLogs"]

#: Bytes of a record that are read at once; a longer one is lost, and the child says so.
LONGEST = 1 << 18
#: Seconds that a child waits for a test's process that does not read.
PATIENCE = 5.0


class ChildLogs(logging.Handler):
    """In children the only handler of the root logger: it sends records to their parent.

    Through a socket that keeps records apart, so that children need no lock which one that
    is killed could keep.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owner = os.getpid()
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._far.settimeout(PATIENCE)
        self._reader = threading.Thread(target=self._read, name="child logs", daemon=True)

    @contextmanager
    def carried(self) -> Iterator[ChildLogs]:
        """Have children that are forked in the block send their records."""
        signals.worker_process_init.connect(self._on_process_init, weak=False)
        try:
            yield self
        finally:
            signals.worker_process_init.disconnect(self._on_process_init)
            self._end()

    def listen(self) -> None:
        """Begin to read: not before the fork, which threads do not survive."""
        self._reader.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._far.send(_packed(record))
        except Exception:
            self.handleError(record)

    def _on_process_init(self, **_: Any) -> None:
        if os.getpid() != self._owner:
            logging.getLogger().handlers = [self]

    def _read(self) -> None:
        # An empty message is the end: `_end` sends it.
        while message := self._near.recv(LONGEST):
            record = logging.makeLogRecord(pickle.loads(message))  # noqa: S301 - of our own child
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)

    def _end(self) -> None:
        if self._reader.is_alive():
            self._far.send(b"")
            self._reader.join(PATIENCE)
        self._near.close()
        self._far.close()


def _packed(record: logging.LogRecord) -> bytes:
    told = copy.copy(record)
    if told.exc_info:
        # Tracebacks cannot be sent; their text can.
        told.exc_text = told.exc_text or logging.Formatter().formatException(told.exc_info)
        told.exc_info = None
    try:
        return pickle.dumps(vars(told))
    except Exception:
        told.msg, told.args = told.getMessage(), None
        kept = {key: value for key, value in vars(told).items() if key in vars(_plain)}
        return pickle.dumps(kept)


_plain = logging.makeLogRecord({})
