"""Groups that are kept under their ids, and chords, as a backend sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["GroupMixin"]


class GroupMixin:
    """The part of a backend that knows which results belong together."""

    app: Any
    _cache: Any

    if TYPE_CHECKING:
        _ensure_not_eager: Callable[[], None]
        _ensure_retryable: Callable[..., Any]

        def _undefined(self, hook: str) -> NoReturn: ...

    # ── groups ──────────────────────────────────────────────────────────────────────────

    def save_group(self, group_id: str, result: Any) -> Any:
        """Store which results belong to a group."""
        return self._ensure_retryable(lambda: self._save_group(group_id, result))

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The group that was saved, or None."""
        meta = self.get_group_meta(group_id, cache=cache)
        return meta["result"] if meta else None

    def delete_group(self, group_id: str) -> Any:
        """Undo `save_group`."""
        self._cache.pop(group_id, None)
        return self._ensure_retryable(lambda: self._delete_group(group_id))

    def get_group_meta(self, group_id: str, cache: bool = True) -> Any:
        """What `restore_group` reads: a dict with ``result``, or None."""
        self._ensure_not_eager()
        if cache and group_id in self._cache:
            return self._cache[group_id]
        meta = self._ensure_retryable(lambda: self._restore_group(group_id))
        if cache and meta is not None:
            self._cache[group_id] = meta
        return meta

    def reload_group_result(self, group_id: str) -> None:
        """Read a group again that is remembered."""
        self._cache[group_id] = self.get_group_meta(group_id, cache=False)

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._undefined("_save_group")

    def _restore_group(self, group_id: str) -> Any:
        self._undefined("_restore_group")

    def _delete_group(self, group_id: str) -> Any:
        self._undefined("_delete_group")

    # ── chords ──────────────────────────────────────────────────────────────────────────

    def ensure_chords_allowed(self) -> None:
        """Called before a chord is sent; raises if there can be none."""

    def apply_chord(
        self,
        header_result_args: Any,
        body: Any,
        connection: Any = None,
        **kwargs: Any,
    ) -> None:
        """Send the body of a chord, to wait until the header's last member has ended.

        The jobs are counted where they are kept, whatever keeps their results, and the
        body's own job waits there. It is called with the list of what they return.

        Args:
            header_result_args: Arguments of the header's `GroupResult`: its id, and the
                results of its members.
            body: The body.
            connection: A connection whose transaction it is to be part of.
            **kwargs: Celery's (``interval``, ``max_retries`` …), unused: nobody polls.
        """
        from pgtasks.app.batch import HeaderResults, awaiting
        from pgtasks.app.publish import batch
        from pgtasks.canvas.chord_bodies import send_body

        self.ensure_chords_allowed()
        group_id, members, *_ = header_result_args
        header = HeaderResults(str(group_id), len(members))
        lent = {} if connection is None else {"connection": connection}
        with batch(self.app), awaiting(header):
            send_body(body, header, **lent)

    def fallback_chord_unlock(
        self, header_result: Any, body: Any, countdown: float = 1, **kwargs: Any
    ) -> None:
        """Celery's way where a store cannot count; here it is `apply_chord` by that name.

        Args:
            header_result: The `GroupResult` of the header.
            body: The body.
            countdown: Seconds between two looks; nobody looks.
            **kwargs: As for `apply_chord`.
        """
        self.apply_chord((header_result.id, header_result.results), body, **kwargs)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, **kwargs: Any
    ) -> None:
        """Told of each member of a chord that has ended; the queue has counted it."""

    def add_to_chord(self, chord_id: str, result: Any) -> Any:
        """Add a member to a chord whose header runs.

        Raises:
            Unsupported: Only stores that know their chords can do that.
        """
        self._undefined("add_to_chord")

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Told how many members a chord has; the queue counts them itself."""
