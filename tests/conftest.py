"""Fixtures for the whole suite; each ``fix_*`` module tells its own story."""

import signal

pytest_plugins = ["fix_postgres", "fix_client", "fix_log", "fix_pgbouncer"]

# A shell has what it runs in the background ignore Ctrl-C, and programs that a test starts
# inherit that: they would not stop when the test tells them to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
