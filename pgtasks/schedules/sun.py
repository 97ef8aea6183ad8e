"""Sunrise, sunset, and what is between them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.schedules.base import BaseSchedule
from pgtasks.utils.time import subtract_datetimes, timezone

__all__ = ["solar"]


class solar(BaseSchedule):
    """Run a task at an event of the sun; needs the package ``ephem``.

    Events are, in the order of a day, ``dawn_astronomical``, ``dawn_nautical``,
    ``dawn_civil``, ``sunrise``, ``solar_noon``, ``sunset``, ``dusk_civil``,
    ``dusk_nautical`` and ``dusk_astronomical``.

    Args:
        event: One of these.
        lat: Latitude of the observer in degrees, north is positive.
        lon: Longitude of the observer in degrees, east is positive.
        **kwargs: ``nowfun`` and ``app``; see `BaseSchedule`.

    Raises:
        ImproperlyConfigured: ``ephem`` is not installed.
        ValueError: There is no such event or place.
    """

    #: How far the sun's disc is from the horizon, in degrees and minutes.
    _horizons: ClassVar[dict[str, str]] = {
        "dawn_astronomical": "-18",
        "dawn_nautical": "-12",
        "dawn_civil": "-6",
        "sunrise": "-0:34",
        "solar_noon": "0",
        "sunset": "-0:34",
        "dusk_civil": "-6",
        "dusk_nautical": "-12",
        "dusk_astronomical": "-18",
    }
    _all_events: ClassVar[set[str]] = set(_horizons)
    #: What to ask ephem's observer for.
    _methods: ClassVar[dict[str, str]] = {
        "solar_noon": "next_transit",
        **dict.fromkeys(
            ("dawn_astronomical", "dawn_nautical", "dawn_civil", "sunrise"), "next_rising"
        ),
        **dict.fromkeys(
            ("sunset", "dusk_civil", "dusk_nautical", "dusk_astronomical"), "next_setting"
        ),
    }
    #: Twilight is a matter of the sun's centre, rise and set of its upper limb.
    _use_center_l: ClassVar[dict[str, bool]] = {
        event: event.startswith(("dawn", "dusk")) for event in _horizons
    }

    #: How many days ahead to look for an event that does not happen every day.
    max_search_days = 366

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        try:
            import ephem
        except ImportError as error:
            raise ImproperlyConfigured(
                "Solar schedules need the package ephem, which is not installed: "
                "pip install ephem, or pgtasks[solar] (celery[solar] brought it)"
            ) from error
        if event not in self._all_events:
            events = ", ".join(self._horizons)
            raise ValueError(f"There is no solar event {event!r}; choose one of {events}")
        if not -90 <= lat <= 90:
            raise ValueError(f"The latitude {lat} must lie between -90 and 90 degrees")
        if not -180 <= lon <= 180:
            raise ValueError(f"The longitude {lon} must lie between -180 and 180 degrees")
        super().__init__(**kwargs)
        self.ephem = ephem
        self.event = event
        self.lat = lat
        self.lon = lon
        self.method = self._methods[event]
        self.use_center = self._use_center_l[event]
        self.cal = ephem.Observer()
        self.cal.lat = str(lat)
        self.cal.lon = str(lon)
        self.cal.elev = 0
        self.cal.horizon = self._horizons[event]
        # Refraction is part of the horizons above.
        self.cal.pressure = 0

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Time until the first such event after ``last_run_at``.

        Where the event does not occur within `max_search_days`, the end of these
        is the answer, and the search goes on from there.
        """
        last = self.maybe_make_aware(last_run_at).astimezone(timezone.utc)
        # ephem takes UTC, and knows no timezones.
        self.cal.date = last.replace(tzinfo=None)
        event = self._next_event(self.ephem.Date(last.replace(tzinfo=None)))
        return subtract_datetimes(event.datetime(), self.now())

    def _next_event(self, start: Any) -> Any:
        sun = self.ephem.Sun()
        options = {"use_center": True} if self.use_center else {}
        for _ in range(self.max_search_days):
            try:
                return getattr(self.cal, self.method)(sun, start=start, **options)
            except self.ephem.CircumpolarError:
                # A day without the event, as in polar night: from the next midnight.
                start = self.cal.next_antitransit(sun, start=start)
        return start

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)
