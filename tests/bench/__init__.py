"""pgtasks beside Celery on Redis and on RabbitMQ: ``python -m tests.bench``."""
