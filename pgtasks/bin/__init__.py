"""Celery's paths to the command line, ``celery.bin``: the commands are in ``pgtasks.cli``."""
