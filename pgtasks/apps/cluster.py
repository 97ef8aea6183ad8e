"""Several workers on one machine, and doing something to all of them."""

from __future__ import annotations

import signal
from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import sleep
from typing import TYPE_CHECKING, Any

from pgtasks.platforms import signal_name
from pgtasks.utils.saferepr import saferepr

if TYPE_CHECKING:
    from pgtasks.apps.multi import Node

__all__ = ["Cluster", "Told", "tell"]

Told = Callable[..., Any] | None
"""A function that is told what happens, or None."""


def tell(fun: Told, *args: Any, **kwargs: Any) -> None:
    """Call a function, if there is one."""
    if fun is not None:
        fun(*args, **kwargs)


class Cluster(UserList["Node"]):
    """Some nodes, and doing something to all of them.

    Args:
        nodes: The nodes.
        cmd: Accepted from Celery; each node has its own.
        env: Environment of those that are started.
        **told: Functions that are told what happens: ``on_node_start`` and the others
            that are attributes here.
    """

    on_stopping_preamble: Told = None
    on_send_signal: Told = None
    on_still_waiting_for: Told = None
    on_still_waiting_progress: Told = None
    on_still_waiting_end: Told = None
    on_node_start: Told = None
    on_node_restart: Told = None
    on_node_shutdown_ok: Told = None
    on_node_status: Told = None
    on_node_signal: Told = None
    on_node_signal_dead: Told = None
    on_node_down: Told = None
    on_child_spawn: Told = None
    on_child_signalled: Told = None
    on_child_failure: Told = None

    def __init__(
        self,
        nodes: Iterable[Node],
        cmd: str | None = None,
        env: Mapping[str, str] | None = None,
        **told: Told,
    ) -> None:
        super().__init__()
        self.data = self.nodes = nodes if isinstance(nodes, list) else list(nodes)
        self.cmd = cmd or "pgtasks worker"
        self.env = env
        for name, function in told.items():
            if not name.startswith("on_") or not hasattr(type(self), name):
                raise TypeError(f"A cluster tells nobody of {name!r}.")
            setattr(self, name, function)

    def find(self, name: str) -> Node:
        """The node of this whole name.

        Raises:
            KeyError: There is none.
        """
        for node in self:
            if node.name == name:
                return node
        raise KeyError(name)

    def getpids(self, on_down: Told = None) -> Iterator[Node]:
        """The nodes that have a process; of the others ``on_down`` is told."""
        for node in self:
            if node.pid:
                yield node
            else:
                tell(on_down, node)

    def start(self) -> list[int]:
        """Start all of them; the answer is the status of each."""
        return [self.start_node(node) for node in self]

    def start_node(self, node: Node) -> int:
        """Start one, and tell of it."""
        tell(self.on_node_start, node)
        status = self._start_node(node)
        tell(self.on_node_status, node, status)
        return status

    def _start_node(self, node: Node) -> int:
        return node.start(
            self.env,
            on_spawn=self.on_child_spawn,
            on_signalled=self.on_child_signalled,
            on_failure=self.on_child_failure,
        )

    def send_all(self, sig: int) -> None:
        """Signal all of them."""
        for node in self.getpids(on_down=self.on_node_down):
            tell(self.on_node_signal, node, signal_name(sig))
            node.send(sig, self.on_node_signal_dead)

    def kill(self) -> None:
        """Kill all of them: what they run is lost, but for tasks that are safe to run again."""
        self.send_all(signal.SIGKILL)

    def stop(
        self, retry: float | None = None, callback: Told = None, sig: int = signal.SIGTERM
    ) -> None:
        """Signal all of them, and with ``retry`` wait for their end.

        Args:
            retry: Seconds between two looks whether they have ended.
            callback: Told of each that is down.
            sig: The signal.
        """
        self._stop_nodes(retry, self.on_node_down if callback is None else callback, sig)

    def stopwait(
        self, retry: float = 2, callback: Told = None, sig: int = signal.SIGTERM
    ) -> None:
        """Signal all of them, and wait for their end."""
        self.stop(retry, callback, sig)

    def restart(self, sig: int = signal.SIGTERM) -> list[int]:
        """Stop all of them, and start each as soon as it has ended, or was not there.

        Returns:
            The status of each.
        """
        statuses: list[int] = []

        def start(node: Node) -> None:
            tell(self.on_node_restart, node)
            statuses.append(self._start_node(node))
            tell(self.on_node_status, node, statuses[-1])

        self._stop_nodes(2, start, sig)
        return statuses

    def _stop_nodes(self, retry: float | None, on_down: Told, sig: int) -> None:
        nodes = list(self.getpids(on_down=on_down))
        if nodes:
            for node in self.shutdown_nodes(nodes, sig=sig, retry=retry):
                tell(on_down, node)

    def shutdown_nodes(
        self, nodes: Sequence[Node], sig: int = signal.SIGTERM, retry: float | None = None
    ) -> Iterator[Node]:
        """Signal nodes; the answer are those that are down, as soon as they are seen to be.

        Args:
            nodes: The nodes.
            sig: The signal.
            retry: Seconds between two looks at most; without it nobody is waited for.
        """
        tell(self.on_stopping_preamble, nodes)
        left: list[Node] = []
        for node in nodes:
            tell(self.on_send_signal, node, signal_name(sig))
            # Kept, for the process ends a moment after it has removed its pid file.
            node.pid = node.pid
            if node.send(sig, self.on_node_signal_dead):
                left.append(node)
            else:
                node.pid = None
                yield node
        if retry:
            yield from self._await(left, float(retry))
        for node in left:
            node.pid = None

    def _await(self, nodes: Sequence[Node], most: float) -> Iterator[Node]:
        left, pause = list(nodes), min(0.1, most)
        tell(self.on_still_waiting_for, left)
        while left:
            for node in list(left):
                tell(self.on_still_waiting_progress, left)
                if not node.alive():
                    tell(self.on_node_shutdown_ok, node)
                    left.remove(node)
                    node.pid = None
                    yield node
                    tell(self.on_still_waiting_for, left)
            if left:
                sleep(pause)
                pause = min(2 * pause, most)
        tell(self.on_still_waiting_end)

    def __repr__(self) -> str:
        names = saferepr([node.name for node in self])
        return f"<{type(self).__name__}({len(self)}): {names}>"
