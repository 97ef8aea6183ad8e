"""``python -m pgtasks`` and the program ``pgtasks``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line and return its exit status."""
    from pgtasks.cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
