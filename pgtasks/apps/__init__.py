"""The programs by themselves, under Celery's path ``celery.apps``: a worker, a beat."""
