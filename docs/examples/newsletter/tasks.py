"""The program: one task that renders an issue for a subscriber and mails it.

Nothing in this file knows about PostgreSQL. It is what a Celery program looks
like after its imports were changed.
"""

from __future__ import annotations

import os
import smtplib
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from string import Template

from pgtasks import Celery
from pgtasks.exceptions import Discard, Snooze

SMTP_PORT = int(os.environ.get("NEWSLETTER_SMTP_PORT", "25"))
ISSUE = 12
LETTER = Template((Path(__file__).parent / "issue.txt").read_text(encoding="utf-8"))
OPENINGS = {
    "birds": "The swifts left on the ninth, two days before the first frost.",
    "books": "A library that lends in winter only, and why it has the best readers.",
    "bread": "Rye that rises overnight on a window sill, with three mistakes.",
    "gardens": "What to cut now, what to leave standing for the wrens.",
    "maps": "The island that was on every chart until someone sailed there.",
    "radio": "Long wave after dark: four stations that you can still hear.",
    "sailing": "Reefing early: the log of a crossing that nearly was not one.",
    "trains": "The last slow night train, compartment by compartment.",
}

app = Celery("newsletter")
app.conf.update(
    task_routes={"tasks.send_issue": {"queue": "mailers"}},
    # How soon a worker that vanished is missed; `make demo CHAOS=1` sets it to 3.
    worker_lease=float(os.environ.get("NEWSLETTER_LEASE", "20")),
)


# A mail that went out twice is better than one that never did: the task says
# that it may run again when the worker under it dies.
@app.task(bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=5)
def send_issue(self, subscriber: dict[str, str]) -> str:
    """Mail the issue to one subscriber and return the Message-ID."""
    mail = render(subscriber, message_id=f"<{self.request.id}@newsletter.example.org>")
    try:
        with smtplib.SMTP("127.0.0.1", SMTP_PORT, timeout=10) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        code, reason = refused.recipients[subscriber["email"]]
        if code == 451:  # try again later: each time, wait twice as long
            raise self.retry(exc=refused, countdown=0.5 * 2**self.request.retries)
        if code == 421:  # the server closes for a while: not this mail's fault
            raise Snooze(1)
        if code == 550:  # nobody lives there: trying again would not help
            raise Discard(f"{subscriber['email']}: {reason.decode()}")
        raise
    return mail["Message-ID"]


def render(subscriber: dict[str, str], *, message_id: str) -> EmailMessage:
    """The issue as a mail to one subscriber."""
    mail = EmailMessage()
    mail["From"] = "The Harbour Letter <letter@newsletter.example.org>"
    mail["To"] = Address(subscriber["name"], addr_spec=subscriber["email"])
    mail["Subject"] = f"The Harbour Letter, issue {ISSUE}"
    # The id of the task, so the same one however often the task runs: a mail
    # system that sees it twice can tell that it is one letter.
    mail["Message-ID"] = message_id
    mail["X-Subscriber"] = subscriber["number"]
    mail.set_content(
        LETTER.substitute(
            subscriber,
            issue=ISSUE,
            next_issue=ISSUE + 1,
            opening=OPENINGS[subscriber["topic"]],
        )
    )
    return mail
