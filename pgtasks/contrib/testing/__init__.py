"""Applications, messages and tasks for tests, under Celery's names."""
