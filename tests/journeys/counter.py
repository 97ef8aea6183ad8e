"""The application of the page "Enqueue from SQL": its task notes for whom it was run."""

from __future__ import annotations

from shop import app, note

__all__ = ["app"]


@app.task(bind=True, name="proj.tasks.welcome")
def welcome(self, email, name="you"):
    note(self.request.id, f"{email} {name} {self.request.meta} {self.request.tags}")
