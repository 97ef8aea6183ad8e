"""Runs Celery's own test suite against pgtasks, and says how much of it passes.

``python3 -m compat.conformance`` from the root of the repository; ``--help`` tells
the rest, and docs/how-to/run-the-conformance-suite.md the whole of it.
"""
