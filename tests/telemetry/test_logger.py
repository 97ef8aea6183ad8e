"""The default logger: events as JSON, one to a line."""

from __future__ import annotations

import json
import logging

import pytest

from pgtasks import telemetry
from pgtasks.testing import perform_job


@pytest.fixture(autouse=True)
def _nobody_stays_attached():
    yield
    telemetry.detach_default_logger()
    assert telemetry.HANDLERS == {}


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG, "pgtasks.telemetry")

    def read():
        records = [each for each in caplog.records if each.name == "pgtasks.telemetry"]
        return [json.loads(each.getMessage()) for each in records]

    return read


@pytest.fixture
def add(memory_app):
    @memory_app.task(name="tests.add")
    def add(x, y):
        return x + y

    return add


def test_a_job_is_two_lines(add, lines, caplog):
    telemetry.attach_default_logger("warning")
    perform_job(add, (1,), {"y": 2}, tags=["t"], meta={"m": 1}, queue="sums")

    start, stop = lines()
    for line, event in ((start, "job.start"), (stop, "job.stop")):
        assert (line["source"], line["event"]) == ("pgtasks", event)
        assert (line["task"], line["queue"], line["attempt"]) == ("tests.add", "sums", 1)
        assert (line["args"], line["kwargs"]) == ([1], {"y": 2})
        assert (line["tags"], line["meta"]) == (["t"], {"m": 1})
    assert stop["state"] == "success"
    assert stop["duration"] >= 0
    assert {"app", "job", "result", "error"}.isdisjoint(stop)
    assert {each.levelno for each in caplog.records if "job." in each.message} == {30}
    assert all("\n" not in each.getMessage() for each in caplog.records)


def test_a_failure_says_why(memory_app, lines):
    @memory_app.task
    def fail():
        raise KeyError("oh")

    telemetry.attach_default_logger()
    perform_job(fail)

    line = lines()[-1]
    assert (line["event"], line["state"]) == ("job.exception", "discard")
    assert line["reason"] == "KeyError('oh')"
    assert "Traceback" in line["stacktrace"]


def test_arguments_can_be_left_out_and_secrets_are(add, lines):
    telemetry.attach_default_logger(arguments=False)
    perform_job(add, (1, 2))
    assert not any("args" in line or "kwargs" in line for line in lines())
    telemetry.detach_default_logger()

    telemetry.attach_default_logger()
    perform_job(add, (123456, 2), argsrepr="(secret)")
    assert lines()[-1]["args"] == "(secret)"
    assert "argsrepr" not in lines()[-1]
    assert "123456" not in json.dumps(lines())


def test_values_that_json_does_not_know_are_texts(lines):
    from datetime import datetime
    from uuid import UUID

    telemetry.attach_default_logger(events=["plugin"])
    odd = {"a": {1, 2}, "when": datetime(2030, 1, 1), "id": UUID(int=1), (1, 2): 3}
    round_and_round = []
    round_and_round.append(round_and_round)
    telemetry.execute("pgtasks.plugin.stop", {}, {"plugin": "x", "odd": odd})
    telemetry.execute("pgtasks.plugin.stop", {}, {"plugin": "y", "odd": round_and_round})

    first, second = lines()
    assert first["odd"] == {
        "a": "{1, 2}",
        "when": "2030-01-01 00:00:00",
        "id": "00000000-0000-0000-0000-000000000001",
    }
    assert second["odd"] == "[[...]]"


@pytest.mark.parametrize(
    ("events", "heard", "unheard"),
    [
        (None, "pgtasks.plugin.stop", "pgtasks.engine.fetch_jobs.stop"),
        ("all", "pgtasks.engine.fetch_jobs.stop", None),
        ("engine", "pgtasks.engine.fetch_jobs.stop", "pgtasks.job.stop"),
        (["job.stop"], "pgtasks.job.stop", "pgtasks.job.start"),
    ],
)
def test_the_events_can_be_chosen(events, heard, unheard):
    telemetry.attach_default_logger(events=events)

    attached = {each.event for each in telemetry.list_handlers()}
    assert heard in attached
    assert unheard not in attached


def test_the_message_can_be_left_a_dict(add, caplog):
    caplog.set_level(logging.INFO, "pgtasks.telemetry")
    telemetry.attach_default_logger(encode=False)
    perform_job(add, (1, 2))

    messages = [each.msg for each in caplog.records if each.name == "pgtasks.telemetry"]
    assert [each["event"] for each in messages] == ["job.start", "job.stop"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"events": ["jobs"]}, "no events 'jobs'"),
        ({"level": "loud"}, "level='loud'"),
    ],
)
def test_what_does_not_exist_is_told(given, message):
    with pytest.raises(ValueError, match=message):
        telemetry.attach_default_logger(**given)


def test_it_is_attached_once():
    telemetry.attach_default_logger()
    with pytest.raises(ValueError, match="attached already"):
        telemetry.attach_default_logger()
    assert telemetry.detach_default_logger()
    assert not telemetry.detach_default_logger()
