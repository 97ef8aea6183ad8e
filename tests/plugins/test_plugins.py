"""Which plugins a worker runs, and that none of them can do it harm."""

from __future__ import annotations

import logging
import threading
from importlib.metadata import EntryPoint

import pytest

from helpers import eventually
from pgtasks import Celery, telemetry
from pgtasks.exceptions import ImproperlyConfigured
from pgtasks.plugins import Plugin, catalog
from pgtasks.plugins.metrics import Metrics
from pgtasks.storage.errors import StorageUnavailable
from pgtasks.storage.leaders import Seat
from pgtasks.worker.timer import Timer

HERE = "tests_plugins_test_plugins"


class Gossip(Plugin):
    interval = 30.0
    options = {"channel": "#ops"}

    def run(self):
        return {"told_count": 1}


def chosen(setting, **entry_points: str) -> catalog.Chosen:
    return catalog.choose(Celery("t", set_as_current=False, changes={"plugins": setting}))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Packages that are installed: name to where its class is."""

    def install(**points: str) -> None:
        found = [EntryPoint(name, value, catalog.GROUP) for name, value in points.items()]
        monkeypatch.setattr(catalog, "entry_points", lambda group: found)

    install()
    monkeypatch.setitem(
        __import__("sys").modules, HERE, __import__("sys").modules[__name__]
    )
    return install


def names(found: catalog.Chosen) -> list[str]:
    return [*found.services, *(each.name for each in found.plugins)]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, ["stager", "lifeline", "pruner", "reindexer", "metrics", "cron"]),
        (None, ["stager", "lifeline", "pruner", "reindexer", "metrics", "cron"]),
        (False, []),
        ({"reindexer": False}, ["stager", "lifeline", "pruner", "metrics", "cron"]),
        ({"stager": False, "lifeline": False}, ["pruner", "reindexer", "metrics", "cron"]),
        (
            {"pruner": True},
            ["stager", "lifeline", "pruner", "reindexer", "metrics", "cron"],
        ),
    ],
)
def test_the_setting_switches_them(installed, setting, expected):
    assert names(chosen(setting)) == expected


def test_options_are_given_by_name(installed):
    found = chosen({"metrics": {"interval": 5}, "stager": {"limit": 7}})
    [metrics] = [each for each in found.plugins if isinstance(each, Metrics)]

    assert metrics.interval == 5.0
    assert metrics.options["window"] == 10.0
    assert found.services["stager"]["limit"] == 7


def test_a_plugin_of_ones_own_is_named_by_its_path(installed):
    found = chosen({f"{HERE}:Gossip": {"channel": "#dev"}})
    [gossip] = [each for each in found.plugins if isinstance(each, Gossip)]

    assert (gossip.name, gossip.options["channel"], gossip.interval) == (
        "gossip",
        "#dev",
        30.0,
    )


def test_a_plugin_of_an_installed_package_runs_unless_it_is_switched_off(installed):
    installed(gossip=f"{HERE}:Gossip")

    assert "gossip" in names(chosen({}))
    assert "gossip" not in names(chosen({"gossip": False}))
    assert "gossip" not in names(chosen(False))


def test_an_installed_plugin_that_is_broken_is_reported_and_left_out(installed, caplog):
    installed(broken="no_such_module:Thing")

    assert "broken" not in names(chosen({}))
    assert "'broken'" in caplog.text and "goes on without it" in caplog.text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"prunner": {}}, "Did you mean 'pruner'"),
        ({"no.such.module.Thing": {}}, "cannot be imported"),
        ({f"{HERE}:HERE": {}}, "derived from pgtasks.plugins.Plugin"),
        ({f"{HERE}:Gossip": {"chanel": 1}}, "Did you mean 'channel'"),
        ({"pruner": {"max_age": -1}}, "positive"),
        ({"stager": {"limit": 0}}, "at least 1"),
        ({"lifeline": {"rescue_after": 60}}, "no option 'rescue_after'"),
        ({"pruner": 60}, "write a dict"),
        ("pruner", "write a dict"),
        ({"cron": {"lease": 0.1}}, "a second at least"),
        ({"cron": {"crontab": "@daily"}}, "write a list"),
        ({"cron": {"crontabs": []}}, "Did you mean 'crontab'"),
    ],
)
def test_what_the_setting_cannot_mean_is_refused_before_a_worker_starts(
    installed, setting, said
):
    with pytest.raises(ImproperlyConfigured, match=said):
        chosen(setting)


# ── the timer ───────────────────────────────────────────────────────────────────────────


class Counter(Plugin):
    name = "counter"
    interval = 0.01
    error: BaseException | None = None

    def __init__(self, *args, **given) -> None:
        super().__init__(*args, **given)
        self.runs = 0

    def run(self):
        self.runs += 1
        if self.error is not None:
            raise self.error
        return {"ran_count": 1}


class Timing:
    """A timer that is stopped at the end."""

    def __init__(self, plugin: Plugin, seat=lambda: None) -> None:
        self.deaths: list[str] = []
        self.timer = Timer(plugin, seat)
        self.timer.on_death = lambda name, error: self.deaths.append(name)

    def __enter__(self) -> Timer:
        self.timer.start()
        return self.timer

    def __exit__(self, *exc_info) -> None:
        self.timer.stop()
        assert self.timer.join(10)
        assert self.deaths == []


@pytest.mark.parametrize(
    "error",
    [RuntimeError("oh"), SystemExit(3), StorageUnavailable("gone", sqlstate=None)],
)
def test_a_plugin_that_raises_is_reported_by_name_and_runs_again(caplog, error):
    caplog.set_level(logging.WARNING)
    plugin = Counter(None)
    plugin.error = error
    with Timing(plugin):
        eventually(lambda: plugin.runs > 2)

    assert "'counter'" in caplog.text


def test_an_outage_is_one_line_in_the_log(caplog):
    plugin = Counter(None)
    plugin.error = StorageUnavailable("gone", sqlstate=None)
    with Timing(plugin):
        eventually(lambda: plugin.runs > 3)

    assert caplog.text.count("has to wait") == 1


def test_what_only_the_leader_does_waits_for_the_election(caplog):
    class Leading(Counter):
        leader_only = True

    seats: list[Seat] = []
    plugin = Leading(None)
    with Timing(plugin, lambda: seats[-1] if seats else None) as timer:
        before = plugin.runs
        seats.append(Seat("plugins", 7, "me", 30.0))
        timer.wakeup.set()
        eventually(lambda: plugin.runs > 1)
        assert plugin.seat == seats[-1]
        seats.clear()
        timer.wakeup.set()
        eventually(lambda: plugin.seat is None)
        after = plugin.runs

    assert before == 0
    assert plugin.runs <= after + 1


def test_a_plugin_that_has_more_to_do_runs_again_at_once():
    class Much(Counter):
        interval = 0.001

        def run(self):
            super().run()
            self.interval = 3600.0
            return {"again": self.runs < 5}

    plugin = Much(None)
    with Timing(plugin):
        eventually(lambda: plugin.runs == 5)


def test_a_plugin_that_hangs_sees_when_the_worker_stops():
    seen = threading.Event()

    class Patient(Counter):
        def run(self):
            eventually(lambda: self.stopping)
            seen.set()

    with Timing(Patient(None)) as timer:
        timer.stop()
        timer.join(5)


def test_what_a_plugin_has_done_is_told(caplog):
    told: list[dict] = []
    telemetry.attach(
        "test", "pgtasks.plugin.stop", lambda event, numbers, known, _: told.append(known)
    )
    try:
        with Timing(Counter(None)):
            eventually(lambda: told)
    finally:
        telemetry.detach("test")

    assert told[0] == {"plugin": "counter", "ran_count": 1}
