"""Settings of a project whose database comes from the environment, as in production."""

import os
from urllib.parse import parse_qs, unquote, urlsplit

_url = urlsplit(os.environ["SHOP_DATABASE_URL"])
_query = {name: values[-1] for name, values in parse_qs(_url.query).items()}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.lstrip("/"),
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        "HOST": _query.get("host") or _url.hostname or "",
        "PORT": _query.get("port") or _url.port or "",
        "CONN_MAX_AGE": None,
        "OPTIONS": {"application_name": "shop"},
    }
}
INSTALLED_APPS = ["orders"]
SECRET_KEY = "for tests"
USE_TZ = True
SILENCED_SYSTEM_CHECKS = [] if os.environ.get("SHOP_IS_BROKEN") else ["orders.E001"]

CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_DB_REUSE_MAX = int(os.environ.get("CELERY_DB_REUSE_MAX", "0"))
