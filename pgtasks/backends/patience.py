"""A store that is away for a while: operations that are tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgtasks.utils.log import get_logger
from pgtasks.utils.serialization import raise_with_context
from pgtasks.utils.time import get_exponential_backoff_interval

__all__ = ["PatienceMixin"]

logger = get_logger("celery.backends.base")


class PatienceMixin:
    """The part of a backend that honours ``result_backend_always_retry`` and its kin.

    The store in PostgreSQL does not need it, for every query of ours is tried again by the
    rules of `Database`.

    Args:
        conf: The settings.
    """

    if TYPE_CHECKING:
        _sleep: Callable[[float], None]

    def __init__(self, conf: Any) -> None:
        self.always_retry = conf.result_backend_always_retry
        self.max_retries = conf.result_backend_max_retries
        self.base_sleep_between_retries_ms = (
            conf.result_backend_base_sleep_between_retries_ms
        )
        self.max_sleep_between_retries_ms = conf.result_backend_max_sleep_between_retries_ms

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether an operation that raised ``exc`` may be tried again; none by default."""
        return False

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Called before an operation is tried again, for instance to connect anew."""

    def _ensure_retryable(
        self, operation: Callable[[], Any], give_up: Callable[[], Exception] | None = None
    ) -> Any:
        """Try as often as ``result_backend_always_retry`` and its kin allow."""
        retries = 0
        while True:
            try:
                return operation()
            except Exception as exc:
                if not (self.always_retry and self.exception_safe_to_retry(exc)):
                    raise
                if retries >= self.max_retries:
                    if give_up is not None:
                        raise_with_context(give_up())
                    raise
                retries += 1
                logger.warning(
                    "%s could not be reached (%r); attempt %s of %s follows.",
                    type(self).__name__, exc, retries, self.max_retries, exc_info=True,
                )  # fmt: skip
                try:
                    self.on_backend_retryable_error(exc)
                except Exception:
                    logger.exception(
                        "on_backend_retryable_error() failed, the try goes on."
                    )
                milliseconds = get_exponential_backoff_interval(
                    self.base_sleep_between_retries_ms,
                    retries,
                    self.max_sleep_between_retries_ms,
                    True,
                )
                self._sleep(milliseconds / 1000)
