"""The other side: a real SMTP server on loopback that is moody in a repeatable way.

Run by demo.py as a process of its own; `python postoffice.py` shows what it does.
It prints its port, writes one line of JSON for each answer to a recipient and each
mail that it took, and stops when its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from email import message_from_bytes
from pathlib import Path
from typing import TextIO
from zlib import crc32

from aiosmtpd.smtp import SMTP, Envelope, Session

ACCEPTED = "250 OK"
REPLIES = {
    451: "451 4.7.1 Greylisted, please try again later",
    421: "421 4.3.2 Service not available, closing transmission channel",
    550: "550 5.1.1 Mailbox unavailable",
}


def mood(address: str) -> tuple[int, int]:
    """What the server has against an address: a code, and how many times it says it.

    It follows from the address alone, so two runs meet the same refusals.
    """
    lot = crc32(address.encode()) % 1000
    if lot < 20:
        return 550, sys.maxsize
    if lot < 60:
        return 421, 1
    if lot < 120:
        return 451, 1
    if lot < 150:
        return 451, 2
    return 250, 0


class PostOffice:
    """The handler of one server: decides on recipients and keeps what it accepts."""

    def __init__(self, ledger: TextIO, pause: float) -> None:
        self.ledger = ledger
        self.pause = pause
        self.refusals: Counter[str] = Counter()

    async def handle_RCPT(
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        code, times = mood(address)
        if self.refusals[address] < times:
            self.refusals[address] += 1
            self.note(event="refused", address=address, code=code)
            return REPLIES[code]
        envelope.rcpt_tos.append(address)
        return ACCEPTED

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content or b"")
        await asyncio.sleep(self.pause / 2)
        for address in envelope.rcpt_tos:
            self.note(
                event="accepted",
                address=address,
                subscriber=mail["X-Subscriber"],
                message_id=mail["Message-ID"],
            )
        # The mail is safe now, and only then does the sender hear of it. One that
        # dies in between will send the mail again: RFC 1047 is about this gap.
        await asyncio.sleep(self.pause / 2)
        return ACCEPTED

    def note(self, **event: object) -> None:
        self.ledger.write(json.dumps(event) + "\n")
        self.ledger.flush()


async def serve(ledger: Path, pause: float) -> None:
    loop = asyncio.get_running_loop()
    with ledger.open("a", encoding="utf-8") as lines:
        office = PostOffice(lines, pause)
        server = await loop.create_server(
            lambda: SMTP(office, hostname="postoffice.example.org", loop=loop),
            "127.0.0.1",
            0,
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path, default=Path("/dev/stderr"))
    parser.add_argument("--pause", type=float, default=0.015, help="seconds over a mail")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.ledger, options.pause))
    except KeyboardInterrupt:
        pass
