"""What long-running commands wait for before they begin: a database with our tables."""

from __future__ import annotations

import random
import time
from logging import Logger
from typing import Any

__all__ = ["await_database"]


def await_database(app: Any, logger: Logger) -> None:
    """Wait until there is a database, and look at its tables.

    What starts together with its database, or before it, comes up all the same; what
    waiting cannot mend is an error at once.

    Args:
        app: The application, whose database it is.
        logger: Told of each try that failed.

    Raises:
        StorageError: Nobody is to wait (``broker_connection_retry_on_startup``), or it
            would not help; the message says what does.
    """
    from pgtasks.storage import health, schema
    from pgtasks.storage.errors import StorageUnavailable

    database = app.database
    attempts = 0
    while True:
        try:
            database.run(health.ping())
            break
        except StorageUnavailable as error:
            if app.conf.broker_connection_retry_on_startup is False:
                raise
            attempts += 1
            pause = min(2.0 * attempts, 32.0)
            logger.error("%s Trying again in %.0f s.", error, pause)
            time.sleep(pause * random.uniform(0.8, 1.0))
    schema.check(database)
