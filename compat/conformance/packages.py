"""The packages whose own tests are run: where they come from, and what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CELERY", "DJANGO_CELERY_BEAT", "PACKAGES", "Package"]


@dataclass(frozen=True)
class Package:
    """A source package. It is downloaded for its tests, and never installed."""

    name: str
    version: str
    sha256: str
    parts: Sequence[str]  # what of it is unpacked
    requirements: Sequence[str]  # of its tests: not Celery, and not what only brokers need
    targets: str  # file with the classes of its tests

    @property
    def stem(self) -> str:
        """Name of the archive, less its suffix, and of the folder in it."""
        return f"{self.name.replace('-', '_')}-{self.version}"


CELERY = Package(
    name="celery",
    version="5.7.0",
    sha256="6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0",
    parts=["pyproject.toml", "t/"],
    requirements=[
        "pytest==9.1.1",
        "pytest-subtests==0.15.0",
        "pytest-timeout==2.4.0",
        "pytest-rerunfailures==16.7",
        "pytest-click==1.1.0",
        "pytest-order==1.5.0",
        "freezegun==1.5.5",
        "python-dateutil",
        "billiard",
        "cryptography",
        "django<6.1",
        "ephem",
        "msgpack",
        "pydantic",
        "pyyaml",
        "psutil",
        "redis",
        "tblib",
        "psycopg[binary]",
    ],
    targets="targets.json",
)

DJANGO_CELERY_BEAT = Package(
    name="django-celery-beat",
    version="2.9.0",
    sha256="92404650f52fcb44cf08e2b09635cb1558327c54b1a5d570f0e2d3a22130934c",
    parts=["setup.cfg", "django_celery_beat/", "t/"],
    requirements=[
        "pytest<9",
        "pytest-django>=4.5.2,<5",
        "pytest-timeout",
        "cron-descriptor>=1.2.32,<2",
        "django<6.1",
        "django-timezone-field>=5",
        "ephem",
        "python-crontab>=2.3.4",
        "tzdata",
        "psycopg[binary]",
    ],
    targets="targets-django-celery-beat.json",
)

PACKAGES = {package.name: package for package in (CELERY, DJANGO_CELERY_BEAT)}
