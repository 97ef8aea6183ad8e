"""The shop with a plugin that notes under which term it acts, through what stops it."""

from __future__ import annotations

import os

import psycopg

from pgtasks.plugins import Plugin
from shop import app, note

__all__ = ["Minister", "app", "note"]


class Minister(Plugin):
    """Acts twenty times a second, as a leader's statement does: under its term or not at all."""

    name = "minister"
    interval = 0.05
    leader_only = True

    def __init__(self, *args, **given) -> None:
        super().__init__(*args, **given)
        self.connection: psycopg.Connection | None = None

    def run(self):
        seat = self.seat
        if self.connection is None:
            self.connection = psycopg.connect(os.environ["JOURNEY_LEDGER"], autocommit=True)
        self.connection.execute(
            "with leader as (select from pgtasks.leaders where office = %s and term = %s "
            "and holder = %s for share) "
            "insert into ledger (task_id, event, pid) select %s, 'act', %s from leader",
            [seat.office, seat.term, seat.holder, str(seat.term), os.getpid()],
        )


app.conf.plugins = {
    "cabinet.Minister": {},
    "pruner": {"interval": 0.2, "limit": 500, "max_age": 3600},
    "metrics": {"interval": 0.5},
}
