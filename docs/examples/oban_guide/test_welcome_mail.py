"""How a task is tested: what it does, what is sent, and all of it together.

    pytest test_welcome_mail.py

It needs the shop's database, whose jobs it leaves alone, and no worker.
"""

from __future__ import annotations

import uuid

import bookshop
import pytest
import welcome_mail
from welcome_mail import sign_up, welcome

from pgtasks.testing import assert_enqueued, drain_queue, mode, perform_job, refute_enqueued


@pytest.fixture(autouse=True)
def stored():
    """Jobs are stored, and nothing runs them."""
    with mode(bookshop.app, "manual"):
        yield


@pytest.fixture
def outbox(monkeypatch):
    sent = []
    monkeypatch.setattr(welcome_mail, "send_mail", lambda *mail: sent.append(mail))
    return sent


@pytest.fixture
def address():
    return f"{uuid.uuid4().hex}@example.org"


# ── what the task does ──────────────────────────────────────────────────────────────────


def test_a_customer_gets_the_mail(outbox, address):
    customer_id = sign_up("Ann", address)

    done = perform_job(welcome, (customer_id,))

    assert (done.state, done.result) == ("completed", address)
    [(to, subject, text)] = outbox
    assert (to, subject) == (address, "Welcome!")
    assert "Dear Ann" in text


def test_a_customer_who_is_gone_gets_none(outbox):
    assert perform_job(welcome, (-1,)).state == "completed"
    assert outbox == []


def test_a_mail_server_that_is_down_is_tried_again(monkeypatch, address):
    def fail(*mail):
        raise ConnectionRefusedError

    monkeypatch.setattr(welcome_mail, "send_mail", fail)
    customer_id = sign_up("Ann", address)

    assert perform_job(welcome, (customer_id,)).state == "retryable"
    assert perform_job(welcome, (customer_id,), attempt=3).state == "discarded"


# ── what is sent ────────────────────────────────────────────────────────────────────────


def test_who_signs_up_is_going_to_get_a_mail(address):
    customer_id = sign_up("Ann", address)

    job = assert_enqueued(welcome, args=(customer_id,), queue="mailers")
    assert job.max_attempts == 3


def test_nobody_is_welcomed_twice(address):
    customer_id = sign_up("Ann", address)

    again = welcome.delay(customer_id)

    assert again.conflict
    assert assert_enqueued(welcome, args=(customer_id,)).task_id == again.id


def test_who_cannot_sign_up_is_not(address):
    customer_id = sign_up("Ann", address)
    with pytest.raises(bookshop.psycopg.errors.UniqueViolation):
        sign_up("Another Ann", address)

    refute_enqueued(welcome, args=(customer_id + 1,))


# ── all of it together ──────────────────────────────────────────────────────────────────


def test_what_waits_is_run_here(outbox, address):
    sign_up("Ann", address)

    assert drain_queue(bookshop.app, "mailers")["discarded"] == 0
    assert address in [to for to, *_ in outbox]


def test_or_at_once(outbox, address):
    customer_id = sign_up("Ann", address)

    with mode(bookshop.app, "inline"):
        assert welcome.delay(customer_id).get() == address

    assert len(outbox) == 1
