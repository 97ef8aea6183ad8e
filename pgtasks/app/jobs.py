"""``app.jobs``: look for jobs, and retry, cancel, delete, change, hold or release them.

It is built in floors: `job_search` looks, `job_batches` says which jobs are meant,
`job_operations` acts on them. Here it is given its forms for coroutines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.app.job_info import JobInfo
from pgtasks.app.job_operations import Operations

if TYPE_CHECKING:
    from pgtasks.app.job_search import Page
    from pgtasks.app.why import Diagnosis

__all__ = ["Jobs"]


class Jobs(Operations):
    """The jobs of an application, as people deal with them.

    Args:
        app: The application.
    """

    async def aget(self, job: Any) -> JobInfo:
        """`get`, for coroutines."""
        return await asyncio.to_thread(self.get, job)

    async def alist(self, **options: Any) -> Page:
        """`list`, for coroutines."""
        return await asyncio.to_thread(self.list, **options)

    async def acount(self, **options: Any) -> Any:
        """`count`, for coroutines."""
        return await asyncio.to_thread(self.count, **options)

    async def awhy(self, job: Any) -> Diagnosis:
        """`why`, for coroutines."""
        return await asyncio.to_thread(self.why, job)

    async def aretry(self, job: Any = None, **options: Any) -> int:
        """`retry`, for coroutines."""
        return await asyncio.to_thread(self.retry, job, **options)

    async def acancel(self, job: Any = None, **options: Any) -> int:
        """`cancel`, for coroutines."""
        return await asyncio.to_thread(self.cancel, job, **options)

    async def adelete(self, job: Any = None, **options: Any) -> int:
        """`delete`, for coroutines."""
        return await asyncio.to_thread(self.delete, job, **options)

    async def ahold(self, job: Any = None, **options: Any) -> int:
        """`hold`, for coroutines."""
        return await asyncio.to_thread(self.hold, job, **options)

    async def arelease(self, job: Any = None, **options: Any) -> int:
        """`release`, for coroutines."""
        return await asyncio.to_thread(self.release, job, **options)

    async def aupdate(
        self, job: Any = None, changes: Mapping[str, Any] | None = None, **options: Any
    ) -> int:
        """`update`, for coroutines."""
        return await asyncio.to_thread(self.update, job, changes, **options)

    async def areprioritise(
        self, job: Any = None, priority: int = 0, **options: Any
    ) -> int:
        """`reprioritise`, for coroutines."""
        return await asyncio.to_thread(self.reprioritise, job, priority, **options)
