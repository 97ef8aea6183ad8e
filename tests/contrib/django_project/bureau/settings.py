"""A project with django-celery-beat: on a Celery that is installed, on the alias, or left."""

import json
import os

from psycopg.conninfo import conninfo_to_dict

DOOR = os.environ["BUREAU_DOOR"]

if DOOR == "alias":
    import pgtasks_celery

    pgtasks_celery.install()

_given = conninfo_to_dict(os.environ["BUREAU_DATABASE_URL"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _given["dbname"],
        **{
            name.upper(): _given.get(name, "")
            for name in ("user", "password", "host", "port")
        },
    }
}
INSTALLED_APPS = [] if DOOR == "left" else ["django_celery_beat"]
SECRET_KEY = "for tests"
USE_TZ = not os.environ.get("BUREAU_NAIVE")
TIME_ZONE = "America/New_York"

CELERY_TIMEZONE = "Europe/Berlin"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = json.loads(os.environ.get("BUREAU_SCHEDULE", "{}"))
