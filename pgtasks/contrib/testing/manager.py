"""What integration tests ask of a running worker, and wait for."""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pgtasks import states
from pgtasks.exceptions import ContentDisallowed, TimeoutError
from pgtasks.result import ResultSet
from pgtasks.utils.text import truncate
from pgtasks.utils.time import humanize_seconds as _humanize_seconds

__all__ = ["E_STILL_WAITING", "Manager", "ManagerMixin", "Sentinel"]

E_STILL_WAITING = "Still waiting for {0}.  Trying again {when}: {exc!r}"

humanize_seconds = partial(_humanize_seconds, microseconds=True)


class Sentinel(Exception):
    """What is waited for has not come yet."""


class ManagerMixin:
    """The methods of `Manager`, for classes that have an ``app``."""

    app: Any

    def _init_manager(
        self,
        block_timeout: float = 30 * 60.0,
        no_join: bool = False,
        stdout: Any = None,
        stderr: Any = None,
    ) -> None:
        from pgtasks.storage.errors import StorageError

        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.connerrors: Any = (StorageError,)
        self.block_timeout = block_timeout
        self.no_join = no_join

    def remark(self, s: str, sep: str = "-") -> None:
        """Print a line to standard output, behind a sign."""
        print(f"{sep}{s}", file=self.stdout)

    def warn(self, s: str) -> None:
        """Print a line to standard error."""
        print(s, file=self.stderr)

    # ── waiting ─────────────────────────────────────────────────────────────────────────

    def wait_for(
        self,
        fun: Callable[..., Any],
        catch: Any,
        desc: str = "thing",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        errback: Callable[..., Any] | None = None,
        max_retries: int = 10,
        interval_start: float = 0.1,
        interval_step: float = 0.5,
        interval_max: float = 5.0,
        emit_warning: bool = False,
        **options: Any,
    ) -> Any:
        """Call a function until it does not fail, and answer what it answers.

        Args:
            fun: The function.
            catch: The exceptions that mean "not yet".
            desc: What is waited for, in words.
            args: Positional arguments.
            kwargs: Keyword arguments.
            errback: Called with each exception, the pause and the number of retries.
            max_retries: Fail after as many; 0 or None for ever.
            interval_start: Seconds of the first pause.
            interval_step: By how much each is longer than the one before.
            interval_max: And how long they get.
            emit_warning: Tell of each retry.
            **options: Further arguments of `retry_over_time`.

        Raises:
            Exception: The last one of those to catch.
        """

        def on_error(error: Any, intervals: Iterator[float], retries: int) -> float:
            pause = next(intervals)
            if emit_warning:
                when = humanize_seconds(pause, "in", " ")
                self.warn(E_STILL_WAITING.format(desc, when=when, exc=error))
            if errback is not None:
                errback(error, pause, retries)
            return pause

        return self.retry_over_time(
            fun,
            catch,
            args=args,
            kwargs=kwargs or {},
            errback=on_error,
            max_retries=max_retries,
            interval_start=interval_start,
            interval_step=interval_step,
            interval_max=interval_max,
            **options,
        )

    def ensure_not_for_a_while(
        self,
        fun: Callable[..., Any],
        catch: Any,
        desc: str = "thing",
        max_retries: int = 20,
        interval_start: float = 0.1,
        interval_step: float = 0.02,
        interval_max: float = 1.0,
        emit_warning: bool = False,
        **options: Any,
    ) -> None:
        """Call a function as `wait_for` does, which has to fail each time.

        Raises:
            AssertionError: It did not.
        """
        try:
            self.wait_for(
                fun,
                catch,
                desc=desc,
                max_retries=max_retries,
                interval_start=interval_start,
                interval_step=interval_step,
                interval_max=interval_max,
                emit_warning=emit_warning,
            )
        except catch:
            return
        raise AssertionError(f"Should not have happened: {desc}")

    def retry_over_time(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function until it does not fail; kombu's."""
        from kombu.utils.functional import retry_over_time

        return retry_over_time(*args, **kwargs)

    def true_or_raise(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function, and answer what it answers.

        Raises:
            Sentinel: That is false.
        """
        answer = fun(*args, **kwargs)
        if not answer:
            raise Sentinel
        return answer

    # ── results ─────────────────────────────────────────────────────────────────────────

    def join(
        self, r: Any, propagate: bool = False, max_retries: int = 10, **kwargs: Any
    ) -> Any:
        """Wait for a result, or for all of a set.

        Args:
            r: The result.
            propagate: Raise what tasks have raised.
            max_retries: Wait as many times; 0 for ever.
            **kwargs: Arguments of ``get``, such as ``timeout``.

        Raises:
            AssertionError: They did not come.
        """
        if self.no_join:
            return None
        if not isinstance(r, ResultSet):
            r = self.app.ResultSet([r])
        received: list[str] = []

        def on_result(task_id: str, value: Any) -> None:
            received.append(task_id)

        for _ in range(max_retries) if max_retries else itertools.count():
            received.clear()
            try:
                return r.get(callback=on_result, propagate=propagate, **kwargs)
            except TimeoutError as error:
                missing = truncate(", ".join(self.missing_results(r)))
                self.remark(
                    f"Still waiting for {len(r) - len(received)}/{len(r)}: [{missing}]: "
                    f"{error!r}",
                    "!",
                )
            except self.connerrors as error:
                self.remark(f"join: connection lost: {error!r}", "!")
                time.sleep(0.1)
        raise AssertionError("Test failed: Missing task results")

    def missing_results(self, r: Iterable[Any]) -> list[str]:
        """The ids of the results that have not been seen."""
        return [each.id for each in r if each.id not in each.backend._cache]

    def assert_result_tasks_in_progress_or_completed(
        self,
        async_results: Sequence[Any],
        interval: float = 0.5,
        desc: str = "waiting for tasks to be started or completed",
        **policy: Any,
    ) -> Any:
        """Wait until tasks have begun, by their results."""
        return self.assert_task_state_from_result(
            self.is_result_task_in_progress,
            async_results,
            interval=interval,
            desc=desc,
            **policy,
        )

    def assert_task_state_from_result(
        self,
        fun: Callable[..., Any],
        results: Sequence[Any],
        interval: float = 0.5,
        **policy: Any,
    ) -> Any:
        """Wait until a function is true of results."""
        check = partial(self.true_or_raise, fun, results, timeout=interval)
        return self.wait_for(check, (Sentinel,), **policy)

    @staticmethod
    def is_result_task_in_progress(results: Iterable[Any], **kwargs: Any) -> bool:
        """Whether all have begun, or are successfully over."""
        return all(each.state in (states.STARTED, states.SUCCESS) for each in results)

    # ── workers ─────────────────────────────────────────────────────────────────────────

    def inspect(self, timeout: float = 3.0) -> Any:
        """`pgtasks.app.control.Inspect` of the application."""
        return self.app.control.inspect(timeout=timeout)

    def query_tasks(self, ids: Iterable[str], timeout: float = 0.5) -> Iterator[Any]:
        """What workers hold of these tasks, as pairs of worker and answer."""
        yield from (self.inspect(timeout).query_task(*ids) or {}).items()

    def query_task_states(
        self, ids: Iterable[str], timeout: float = 0.5
    ) -> dict[str, set[str]]:
        """Ids by what workers do with them: ``reserved``, ``active`` or ``ready``."""
        found: dict[str, set[str]] = defaultdict(set)
        for _, reply in self.query_tasks(ids, timeout=timeout):
            for task_id, (state, _) in reply.items():
                found[state].add(task_id)
        return found

    def assert_accepted(
        self,
        ids: Iterable[str],
        interval: float = 0.5,
        desc: str = "waiting for tasks to be accepted",
        **policy: Any,
    ) -> Any:
        """Wait until workers run these tasks, or have done so."""
        return self.assert_task_worker_state(
            self.is_accepted, ids, interval=interval, desc=desc, **policy
        )

    def assert_received(
        self,
        ids: Iterable[str],
        interval: float = 0.5,
        desc: str = "waiting for tasks to be received",
        **policy: Any,
    ) -> Any:
        """Wait until workers have claimed these tasks."""
        return self.assert_task_worker_state(
            self.is_received, ids, interval=interval, desc=desc, **policy
        )

    def assert_task_worker_state(
        self,
        fun: Callable[..., Any],
        ids: Iterable[str],
        interval: float = 0.5,
        **policy: Any,
    ) -> Any:
        """Wait until a function is true of ids."""
        check = partial(self.true_or_raise, fun, ids, timeout=interval)
        return self.wait_for(check, (Sentinel,), **policy)

    def is_received(self, ids: Iterable[str], **kwargs: Any) -> bool:
        """Whether workers have claimed all of them."""
        return self._all_are(("reserved", "active", "ready"), ids, **kwargs)

    def is_accepted(self, ids: Iterable[str], **kwargs: Any) -> bool:
        """Whether workers run all of them, or have done so."""
        return self._all_are(("active", "ready"), ids, **kwargs)

    def _all_are(
        self, wanted: Iterable[str], ids: Iterable[str], timeout: float = 0.5
    ) -> bool:
        ids = list(ids)
        found = self.query_task_states(ids, timeout=timeout)
        return set(ids) <= set().union(*(found.get(state, ()) for state in wanted))

    def wait_until_idle(self) -> None:
        """Delete what waits, until there is nothing, and let workers end what runs."""
        control = self.app.control
        while control.purge():
            pass
        inspect = control.inspect()
        while True:
            try:
                active = inspect.active() or {}
            except ContentDisallowed:
                # A test of accept_content leaves behind what cannot be read.
                return
            if not any(active.values()):
                return


class Manager(ManagerMixin):
    """Asks and waits, for tests that run against a worker.

    Args:
        app: The application.
        **kwargs: ``stdout`` and ``stderr``, where to print; ``no_join``, to wait for no
            results.
    """

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self.app = app
        self._init_manager(**kwargs)
