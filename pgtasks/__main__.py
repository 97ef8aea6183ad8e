"""``python -m pgtasks`` and the program ``pgtasks``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line and return its exit status."""
    # gevent patches the standard library, and must come before whoever uses it.
    from pgtasks.concurrency import maybe_patch_concurrency

    try:
        maybe_patch_concurrency()
    except ImportError:
        pass  # The command says what is to be installed.
    from pgtasks.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
