"""Fixtures for the whole suite; each ``fix_*`` module tells its own story."""

pytest_plugins = ["fix_postgres", "fix_client"]
