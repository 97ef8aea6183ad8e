"""``pgtasks amqp``, ``list`` and ``graph``: what a broker was asked, of tables."""

from __future__ import annotations

import json

import pytest
from kombu import Exchange, Queue

from pgtasks import bootsteps

# ── amqp ────────────────────────────────────────────────────────────────────────────────


def test_a_queue_is_counted(run, app):
    app.send_task("tests.add", queue="mail")
    result = run("amqp", "queue.declare", "mail", "yes")
    found = json.loads(run("amqp", "queue.declare", "mail", "-j").stdout)

    assert result.stdout == "queue:mail messages:1 consumers:0\nOK\n"
    assert found == {"queue": "mail", "message_count": 1, "consumer_count": 0}


def test_a_job_is_published_looked_at_and_purged(run, app):
    body = json.dumps({"task": "tests.add", "args": [1, 2], "id": "seven"})
    assert run("amqp", "basic.publish", body, "", "mail").stdout == "seven\nOK\n"
    got = run("amqp", "basic.get", "mail", "yes", "--json")

    assert json.loads(got.stdout)["body"] == {
        "task": "tests.add", "id": "seven", "args": [1, 2], "kwargs": {}
    }  # fmt: skip
    assert "basic.get only looks here" in got.stderr
    assert run("amqp", "queue.purge", "mail").stdout == "1 messages deleted.\nOK\n"
    assert "No messages in queue." in run("amqp", "basic.get", "mail").stdout
    assert json.loads(run("amqp", "basic.get", "mail", "-j").stdout) is None


@pytest.mark.parametrize("text", ["hello", "[1]", '{"args": []}'])
def test_what_is_no_job_is_not_published(run, app, text):
    refused = run("amqp", "basic.publish", text, "", "mail")

    assert refused.exit_code == 2
    assert "is no job" in refused.stderr
    assert app.jobs.count() == 0


def test_a_queue_is_deleted_unless_it_was_to_be_kept(run, app):
    app.send_task("tests.add", queue="mail")

    assert run("amqp", "queue.delete", "mail", "no", "yes").exit_code == 1
    assert app.jobs.count() == 1
    assert run("amqp", "queue.delete", "mail", "yes").stdout.startswith(
        "1 messages deleted."
    )
    assert app.jobs.count() == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["exchange.declare", "e", "direct"], "There are no exchanges here"),
        (["exchange.delete", "e", "no"], "There are no exchanges here"),
        (["queue.bind", "q", "e", "k"], "There are no bindings here"),
        (["basic.ack", "7"], "There is nothing to acknowledge"),
    ],
)
def test_what_has_no_meaning_says_so_and_goes_on(run, words, why):
    result = run("amqp", *words)

    assert (result.exit_code, result.stdout) == (0, "OK\n")
    assert why in result.stderr


def test_the_shell_reads_lines_and_says_what_has_no_meaning_once(run, app):
    lines = (
        "exchange.declare e direct\nexchange.delete e no\n\nqueue.declare mail\n"
        "queue.declar mail\n'\nexit\nqueue.declare never\n"
    )
    result = run("amqp", input=lines)

    assert result.stdout == "OK\nOK\nqueue:mail messages:0 consumers:0\nOK\n"
    assert result.stderr.count("There are no exchanges here") == 1
    assert "No such command 'queue.declar'. Did you mean 'queue.declare'" in result.stderr
    assert result.exit_code == 2
    assert run("amqp", "repl", input="queue.declare mail\n").exit_code == 0


# ── list ────────────────────────────────────────────────────────────────────────────────


def test_bindings_are_those_that_the_application_declares(run, app):
    app.conf.task_queues = [Queue("mail", Exchange("post", "topic"), "letters.#")]

    assert run("list", "bindings").stdout.splitlines() == [
        "QUEUE  EXCHANGE  ROUTING KEY", "mail   post      letters.#"
    ]  # fmt: skip
    assert json.loads(run("list", "bindings", "--json").stdout) == [
        {"queue": "mail", "exchange": "post", "routing_key": "letters.#"}
    ]


# ── graph ───────────────────────────────────────────────────────────────────────────────


class Metrics(bootsteps.StartStopStep):
    label = "metrics"
    requires = ("pgtasks.worker.components:Timer",)

    def __init__(self, parent, **kwargs):
        raise AssertionError("drawing a step does not make it")


def test_boot_steps_are_drawn_with_what_they_need(run, app):
    app.steps["worker"].add(Metrics)
    text = run("graph", "bootsteps").stdout
    found = json.loads(run("graph", "bootsteps", "--json").stdout)
    half = json.loads(run("graph", "bootsteps", "consumer", "-j").stdout)

    assert text.startswith("digraph dependencies {\n")
    assert text.rstrip().endswith("}")
    assert '"metrics" -> "Timer"' in text
    assert ["metrics", "Timer"] in found["edges"]
    assert ["Connection", "Consumer"] in found["edges"]
    assert {"Tasks", "Mingle"} <= set(half["nodes"])
    assert "metrics" not in half["nodes"]
    assert run("graph", "bootsteps", "werker").exit_code == 2


def test_workers_are_drawn_with_their_places(run, live):
    text = run("graph", "workers", app=live.app).stdout
    found = json.loads(run("graph", "workers", "-j", app=live.app).stdout)
    broker = next(each for each in found["nodes"] if each.startswith("Broker"))

    assert 'label="live@here"' in text
    assert ["worker live@here", broker] in found["edges"]
    assert ["worker live@here 2", "worker live@here"] in found["edges"]


def test_workers_may_be_made_up_and_many_are_cut_short(run):
    words = ["nodes:a,b,c,d,e,f", "threads:9", "wmax:3", "tmax:0", "generic"]
    text = run("graph", "workers", *words, "enumerate").stdout

    assert 'label="Broker (postgresql://)"' in text
    shown = [f'label="{each}"' in text for each in ("Worker2", "Worker3", "Worker6")]
    assert shown == [True, False, True]
    assert "… 3 more …" in text
    assert text.count('shape="oval"') == 9
    assert run("graph", "workers", "nods:a").exit_code == 2


def test_nobody_there_is_a_drawing_of_the_database(run, app):
    found = json.loads(run("graph", "workers", "-j").stdout)

    assert [each.partition(" ")[0] for each in found["nodes"]] == ["Broker"]
