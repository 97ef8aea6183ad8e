"""A PostgreSQL with our tables for the tests of a suite, until standard input ends.

A program of its own, since it must belong to the user that the tests run as. Prints the
address, and nothing else.
"""

import os
import sys

from pgtasks.dev.postgres import EmbeddedPostgresError, private_server
from pgtasks.storage import schema


def main() -> int:
    """Serve; 1 if there is no PostgreSQL to be had, which standard error explains."""
    try:
        with private_server() as server:
            schema.apply(server.url)
            print(server.url, flush=True)
            sys.stdin.read()
    except EmbeddedPostgresError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
