"""Let code that says ``import celery`` run on pgtasks, without changing it.

First line of the project, before anything can import Celery::

    import pgtasks_celery

    pgtasks_celery.install()

From then on ``celery`` and everything below it *are* pgtasks' modules, the same
objects: classes are identical, patches reach their target, and pickles that name
``celery.…`` load. That holds even where the real Celery is installed, as it is
when a third party's package depends on it.
"""

from __future__ import annotations

from pgtasks_celery.alias import VERSION, install, uninstall

__all__ = ["VERSION", "install", "uninstall"]
