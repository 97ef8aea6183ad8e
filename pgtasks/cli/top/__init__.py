"""The ``top`` command: queues, workers and jobs on one screen, and keys to act on them."""
