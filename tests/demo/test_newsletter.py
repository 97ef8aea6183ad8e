"""The pieces of the newsletter: its readers, its letter, its mail server, its check."""

from __future__ import annotations

import json
import smtplib
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from types import SimpleNamespace

import pytest

SUBSCRIBER = {
    "number": "7",
    "name": "Zoë Müller",
    "email": "zoe.mueller@example.org",
    "topic": "maps",
}


@pytest.fixture
def post_office(newsletter: SimpleNamespace, tmp_path: Path) -> Iterator[SimpleNamespace]:
    with newsletter.demo.post_office(tmp_path) as port:
        yield SimpleNamespace(port=port, ledger=tmp_path / "ledger.jsonl")


def address_in_mood(newsletter: SimpleNamespace, mood: tuple[int, int]) -> str:
    return next(
        subscriber["email"]
        for subscriber in newsletter.demo.read_subscribers()
        if newsletter.postoffice.mood(subscriber["email"]) == mood
    )


def send(port: int, address: str, message_id: str = "<1@example.org>") -> int:
    """Send a mail and return the code that the server answered for its recipient."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "letter@example.org", address
    mail["Message-ID"], mail["X-Subscriber"] = message_id, "7"
    mail.set_content("Hello")
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        return refused.recipients[address][0]
    return 250


def test_there_are_2000_subscribers_with_addresses_of_their_own(newsletter):
    subscribers = newsletter.demo.read_subscribers()
    addresses = {subscriber["email"] for subscriber in subscribers}
    hosts = {address.partition("@")[2] for address in addresses}

    assert [int(subscriber["number"]) for subscriber in subscribers] == list(range(1, 2001))
    assert len(addresses) == 2000
    assert hosts == {"example.org", "example.net", "example.com"}
    assert {subscriber["topic"] for subscriber in subscribers} == set(
        newsletter.tasks.OPENINGS
    )


def test_the_letter_speaks_to_the_subscriber(newsletter):
    mail = newsletter.tasks.render(SUBSCRIBER, message_id="<id@example.org>")
    received = message_from_bytes(bytes(mail), policy=default)

    assert received["To"] == "Zoë Müller <zoe.mueller@example.org>"
    assert received["Message-ID"] == "<id@example.org>"
    assert received["X-Subscriber"] == "7"
    text = received.get_content()
    assert text.startswith("Hello Zoë Müller,")
    assert newsletter.tasks.OPENINGS["maps"] in text
    assert "$" not in text


def test_the_mail_server_refuses_some_of_each_kind(newsletter):
    moods = Counter(
        newsletter.postoffice.mood(subscriber["email"])[0]
        for subscriber in newsletter.demo.read_subscribers()
    )

    assert min(moods[451], moods[421], moods[550]) > 20
    assert moods[250] > 1600


def test_the_mail_server_keeps_what_it_accepts(newsletter, post_office):
    address = address_in_mood(newsletter, (250, 0))

    assert send(post_office.port, address, "<7@example.org>") == 250

    assert list(map(json.loads, post_office.ledger.read_text("utf-8").splitlines())) == [
        {
            "event": "accepted",
            "address": address,
            "subscriber": "7",
            "message_id": "<7@example.org>",
        }
    ]


@pytest.mark.parametrize(
    ("mood", "answers"),
    [
        ((451, 1), [451, 250, 250]),
        ((451, 2), [451, 451, 250]),
        ((421, 1), [421, 250, 250]),
    ],
)
def test_the_mail_server_gives_in_after_its_refusals(
    newsletter, post_office, mood, answers
):
    address = address_in_mood(newsletter, mood)

    assert [send(post_office.port, address) for _ in answers] == answers


def test_the_mail_server_never_takes_mail_for_nobody(newsletter, post_office):
    subscriber = next(
        subscriber["email"]
        for subscriber in newsletter.demo.read_subscribers()
        if newsletter.postoffice.mood(subscriber["email"])[0] == 550
    )

    assert {send(post_office.port, subscriber) for _ in range(4)} == {550}

    ledger = newsletter.demo.Ledger.read(post_office.ledger)
    assert not ledger.accepted
    assert ledger.refused == {subscriber: 550}


def test_a_mail_server_that_cannot_start_names_the_remedy(
    newsletter, tmp_path, monkeypatch
):
    monkeypatch.setattr(newsletter.demo, "HERE", tmp_path)

    with (
        pytest.raises(
            newsletter.demo.DemoFailed, match=r"pip install -e '.\[embedded,demo\]'"
        ),
        newsletter.demo.post_office(tmp_path),
    ):
        pass


class TestCheck:
    """Each way in which the mails and the jobs can disagree."""

    PEOPLE = [{"email": "ann@example.org"}, {"email": "bob@example.org"}]

    def check(self, newsletter, *, jobs, mails):
        demo = newsletter.demo
        rows = [demo.Job(f"{who}@example.org", state, lost) for who, state, lost in jobs]
        taken = Counter({f"{who}@example.org": times for who, times in mails.items()})
        return demo.compare(rows, self.PEOPLE, demo.Ledger(taken, {}))

    def test_one_mail_for_each_completed_job_passes(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 0), ("bob", "discarded", 0)],
            mails={"ann": 1},
        )

        assert check.passed
        assert not any(check)

    def test_a_completed_job_without_a_mail_fails(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 0), ("bob", "completed", 0)],
            mails={"ann": 1},
        )

        assert not check.passed
        assert check.missing == ["bob@example.org"]

    def test_a_mail_for_a_discarded_job_fails(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 0), ("bob", "discarded", 0)],
            mails={"ann": 1, "bob": 1},
        )

        assert not check.passed
        assert check.unwanted == ["bob@example.org"]

    def test_a_mail_to_a_stranger_fails(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 0), ("bob", "discarded", 0)],
            mails={"ann": 1, "eve": 1},
        )

        assert not check.passed
        assert check.unwanted == ["eve@example.org"]

    def test_a_subscriber_whose_job_is_gone_or_not_over_fails(self, newsletter):
        check = self.check(newsletter, jobs=[("ann", "retryable", 0)], mails={})

        assert not check.passed
        assert check.unfinished == ["ann@example.org", "bob@example.org"]

    def test_a_second_mail_of_an_interrupted_job_is_named_and_passes(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 1), ("bob", "completed", 0)],
            mails={"ann": 2, "bob": 1},
        )

        assert check.passed
        assert check.twice == ["ann@example.org"]

    def test_a_second_mail_of_a_job_that_ran_in_peace_fails(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 0), ("bob", "completed", 0)],
            mails={"ann": 2, "bob": 1},
        )

        assert not check.passed
        assert check.unexplained == ["ann@example.org"]

    def test_a_third_mail_fails(self, newsletter):
        check = self.check(
            newsletter,
            jobs=[("ann", "completed", 1), ("bob", "completed", 0)],
            mails={"ann": 3, "bob": 1},
        )

        assert not check.passed
