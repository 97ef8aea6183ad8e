"""The measures: each puts one system through one exercise and returns numbers."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from tests.bench import machine
from tests.bench.board import Board
from tests.bench.systems import COROUTINES, System, Worker

__all__ = [
    "FULL",
    "MEASURES",
    "OPEN_FOR",
    "PRODUCERS",
    "QUICK",
    "REST",
    "TRANSACTIONS",
    "WARM",
    "Measure",
    "Numbers",
    "Sizes",
    "percentile",
]

Numbers = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; counts are of jobs.

    Attributes:
        drain: In the queue when the worker starts.
        drain_peers: The same for Celery.
        one: Sent by one producer, one by one.
        bulk: Sent in one call.
        loop: Sent in a loop by Celery, which has no such call.
        idle: Sent to an idle worker.
        pause: Shortest and longest seconds between them.
        hammer: Seconds that eight producers insert.
        lent: Inserted in transactions that stay open.
        due: Due at random times of ``span`` seconds.
        span: See ``due``.
        lead: Seconds for sending them before the first is due.
        far: Due in ten hours.
        far_peers: The same for Celery, which keeps them in the worker's memory.
        chunk: Drained before and after.
        members: In the header of a chord, and in a group.
        links: In a chain.
        between: Run in between, while a transaction is open elsewhere.
        rests: Of coroutines that wait, all at a time.
    """

    drain: int = 20_000
    drain_peers: int = 20_000
    one: int = 3_000
    bulk: int = 100_000
    loop: int = 3_000
    idle: int = 200
    pause: tuple[float, float] = (0.01, 0.15)
    hammer: float = 4.0
    lent: int = 200
    due: int = 4_000
    span: float = 10.0
    lead: float = 12.0
    far: int = 100_000
    far_peers: int = 10_000
    chunk: int = 20_000
    between: int = 100_000
    members: int = 1_000
    links: int = 200
    rests: int = 500


FULL = Sizes()
QUICK = Sizes(
    drain=5_000,
    drain_peers=800,
    one=300,
    bulk=10_000,
    loop=300,
    idle=15,
    pause=(0.01, 0.05),
    hammer=0.4,
    lent=20,
    due=200,
    span=1.0,
    lead=1.0,
    far=10_000,
    far_peers=500,
    chunk=2_000,
    between=4_000,
    members=50,
    links=10,
    rests=100,
)

WARM = 5  # the first jobs of a client open its connections
PRODUCERS = 8
NAP = 0.005  # what keeps a worker busy takes this long
TRANSACTIONS = 10  # open at a time, each on a connection and thread of its own
OPEN_FOR = 0.5
REST = 1.0  # seconds that each of many coroutines waits


def drain(system: System, sizes: Sizes) -> Numbers:
    """Start a worker on a full queue; count from its first job to its last."""
    jobs = sizes.drain if system.ours else sizes.drain_peers
    sample = system.client("bulk", count=jobs)["sample"]
    with system.board(jobs) as board:
        began = time.time()
        with system.worker(board, warm=False) as worker:
            worker.wait(board.started, 1, poll=0.001)
            before = _Use.of(system, worker)
            done = board.started()
            worker.wait(board.started, jobs)
            # The last results are still on their way.
            time.sleep(0.5)
            used = _Use.of(system, worker) - before
            _check_once(board, jobs)
            memory = worker.memory()
        times = sorted(board.times(0, jobs))
    wrong = system.client("kept", sample=sample)["wrong"]
    if wrong:
        raise RuntimeError(f"results are not what the tasks returned: {wrong}")
    counted = max(1, jobs - done)
    numbers = {
        "rate": (jobs - 1) / (times[-1] - times[0]),
        "worker_us": 1e6 * used.worker / counted,
        "startup_s": times[0] - began,
        "pss_mb": memory.pss / 2**20,
        "others": used.others / used.seconds,
    }
    if used.server is not None:
        numbers["server_us"] = 1e6 * used.server / counted
        numbers["cpu_us"] = numbers["worker_us"] + numbers["server_us"]
    return numbers


def enqueue(system: System, sizes: Sizes) -> Numbers:
    """Send jobs one by one from one producer."""
    before = system.server_cpu()
    numbers = system.client("one", first=0, count=sizes.one)
    numbers |= _server_us(system, before, sizes.one)
    return numbers | system.client("transient", first=sizes.one, count=sizes.one)


def bulk(system: System, sizes: Sizes) -> Numbers:
    """Send many jobs and get their ids: in one call, where there is one for it."""
    jobs = sizes.bulk if system.ours else sizes.loop
    before = system.server_cpu()
    answer = system.client("bulk", count=jobs, warm=20)
    return _of(answer, "rate", "client_us") | _server_us(system, before, jobs)


def idle(system: System, sizes: Sizes) -> Numbers:
    """Send a job to an idle worker now and then; then do so and wait for the result."""
    jobs = WARM + sizes.idle
    with system.board(2 * jobs) as board, system.worker(board) as worker:
        answer = system.client("idle", count=jobs, pause=sizes.pause)
        worker.wait(lambda: board.started(0, jobs), jobs)
        started = board.times(0, jobs)
        _check_once(board, 2 * jobs)
    start = [at - since for at, since in zip(started, answer["sent"], strict=True)]
    get: list[float] = answer["took"]
    return {**_percentiles("start", start[WARM:]), **_percentiles("get", get[WARM:])}


def eight(system: System, sizes: Sizes) -> Numbers:
    """Eight producers, with wake-ups and without, while a worker is busy.

    Twice: while its processes have work that takes long, and while it keeps up with what
    the producers send, where it falls asleep and is woken again and again.
    """
    numbers: Numbers = {}
    wakes = ["coalesced", "never", "never", "coalesced"]  # so that a drift hits both
    turn = sizes.hammer / 2
    for case in ("busy", "keeping_up"):
        system.empty(system)
        with system.board(1) as board, system.worker(board):
            if case == "busy":
                naps = int((4 * sizes.hammer + 20) / NAP) * 2  # for two processes
                system.client("naps", count=naps, seconds=NAP)
            rates = system.client(
                "hammer",
                producers=PRODUCERS,
                wakes=wakes,
                seconds=turn,
                when_empty=case == "keeping_up",
            )["rates"]
        with_, without = (rates[0] + rates[3]) / 2, (rates[1] + rates[2]) / 2
        numbers[f"{case}_with"], numbers[f"{case}_without"] = with_, without
        numbers[case] = 100 * with_ / without
    return numbers


def lend(system: System, sizes: Sizes) -> Numbers:
    """Send jobs in transactions that stay open after the insert; count from the commit."""
    jobs = sizes.lent
    with system.board(jobs) as board, system.worker(board) as worker:
        committed = system.client(
            "lend", count=jobs, threads=TRANSACTIONS, open_for=OPEN_FOR
        )["committed"]
        worker.wait(lambda: board.started(0, jobs), jobs)
        started = board.times(0, jobs)
        _check_once(board, jobs)
    return _percentiles(
        "start", [at - since for at, since in zip(started, committed, strict=True)]
    )


def due(system: System, sizes: Sizes) -> Numbers:
    """Send jobs that are due at random times; count from there to their start."""
    jobs = sizes.due
    with system.board(jobs) as board, system.worker(board) as worker:
        answer = system.client(
            "due", count=jobs, lead=sizes.lead, span=sizes.span, seed=jobs
        )
        if answer["spare"] < 0:
            raise RuntimeError(
                f"sending took {-answer['spare']:.1f} s longer than the lead of "
                f"{sizes.lead:g} s; lateness would show that and not the worker's"
            )
        worker.wait(lambda: board.started(0, jobs), jobs)
        started = board.times(0, jobs)
        _check_once(board, jobs)
    late = [at - due_at for at, due_at in zip(started, answer["times"], strict=True)]
    return {**_percentiles("late", late), "early": float(sum(each < 0 for each in late))}


def memory(system: System, sizes: Sizes) -> Numbers:
    """Let far-future jobs wait, and look at the worker's memory before and after."""
    jobs = sizes.far if system.ours else sizes.far_peers
    with system.board(1) as board, system.worker(board) as worker:
        before = _settled(worker)
        system.client("far", count=jobs)
        after = _settled(worker)
    return {
        "jobs": jobs,
        "pss_mb": before.pss / 2**20,
        "more_mb": (after.pss - before.pss) / 2**20,
        "more_rss_mb": (after.rss - before.rss) / 2**20,
    }


def standby(system: System, sizes: Sizes) -> Numbers:
    """Start a worker, and look at its memory while it has nothing to do."""
    with system.board(1) as board, system.worker(board, warm=False) as worker:
        ready = worker.wait_until_ready(board)
        memory = _settled(worker)
    return {
        "ready_s": ready,
        "pss_mb": memory.pss / 2**20,
        "rss_mb": memory.rss / 2**20,
    }


def coroutines(system: System, sizes: Sizes) -> Numbers:
    """Have many coroutines wait at a time in one worker; count from the call to the last."""
    jobs = sizes.rests
    with (
        system.board(jobs) as board,
        system.worker(board, options=COROUTINES.split()) as worker,
    ):
        before = peak = _settled(worker).rss

        def ended() -> int:
            nonlocal peak
            peak = max(peak, worker.memory().rss)
            return board.started(0, jobs)

        sent = system.client("rests", count=jobs, seconds=REST)["sent"]
        worker.wait(ended, jobs)
        _check_once(board, jobs)
        last = max(board.times(0, jobs))
    return {"rest_s": last - sent, "more_rss_mb": (peak - before) / 2**20}


def canvas(system: System, sizes: Sizes) -> Numbers:
    """Wait for the results of a chord, of a group and of a chain."""
    with system.board(max(sizes.members, 2)) as board, system.worker(board):
        answer = system.client("canvas", members=sizes.members, links=sizes.links)
    return dict(answer)


def bloat(system: System, sizes: Sizes) -> Numbers:
    """Drain before and after many jobs that a transaction keeps from being vacuumed."""
    chunks = math.ceil(sizes.between / sizes.chunk)
    with system.board((chunks + 2) * sizes.chunk) as board, system.worker(board) as worker:

        def rate(number: int) -> float:
            first = number * sizes.chunk
            system.client("bulk", first=first, count=sizes.chunk)
            worker.wait(lambda: board.started(first, sizes.chunk), sizes.chunk)
            times = sorted(board.times(first, sizes.chunk))
            return (sizes.chunk - 1) / (times[-1] - times[0])

        before = rate(0)
        with _open_transaction(system.environment()["BENCH_BROKER"]):
            during = [rate(number) for number in range(1, chunks + 2)]
        _check_once(board, (chunks + 2) * sizes.chunk)
    return {
        "kept": 100 * during[-1] / before,
        "before": before,
        **{f"open_{number}": each for number, each in enumerate(during, 1)},
    }


def events(system: System, sizes: Sizes) -> Numbers:
    """Drain without events, and with them: while somebody listens, and while nobody does.

    Whoever listens here does not read: what it takes to write is measured, not the reader.
    """
    cases = ["without", "listened", "unheard"]
    rates: dict[str, list[float]] = {case: [] for case in cases}
    cpu: dict[str, list[float]] = {case: [] for case in cases}
    for case in [*cases, *reversed(cases)]:  # so that a drift hits all of them
        system.empty(system)
        system.client("bulk", count=sizes.drain)
        options = () if case == "without" else ("-E",)
        url = system.environment()["BENCH_BROKER"]
        listener = _listener(url) if case == "listened" else nullcontext()
        with (
            listener,
            system.board(sizes.drain) as board,
            system.worker(board, warm=False, options=options) as worker,
        ):
            worker.wait(board.started, 1, poll=0.001)
            before, done = _Use.of(system, worker), board.started()
            worker.wait(board.started, sizes.drain)
            # The last events are still on their way.
            time.sleep(0.5)
            used = _Use.of(system, worker) - before
            times = sorted(board.times(0, sizes.drain))
        rates[case].append((sizes.drain - 1) / (times[-1] - times[0]))
        seconds = used.worker + (used.server or 0.0)
        cpu[case].append(1e6 * seconds / max(1, sizes.drain - done))
    numbers = {case: statistics.fmean(each) for case, each in rates.items()}
    numbers |= {f"{case}_us": statistics.fmean(each) for case, each in cpu.items()}
    numbers["kept"] = 100 * numbers["listened"] / numbers["without"]
    numbers["kept_unheard"] = 100 * numbers["unheard"] / numbers["without"]
    numbers["more_us"] = numbers["listened_us"] - numbers["without_us"]
    return numbers


@dataclass(frozen=True)
class Measure:
    """A measure and who takes part.

    Attributes:
        name: For ``--only``.
        run: Does it.
        peers: Whether Celery can do it, too.
        quick_peers: Whether a quick run needs Celery's figures, to compare with.
    """

    name: str
    run: Callable[[System, Sizes], Numbers]
    peers: bool = True
    quick_peers: bool = True


MEASURES = {
    each.name: each
    for each in (
        Measure("drain", drain),
        Measure("enqueue", enqueue),
        Measure("bulk", bulk, quick_peers=False),
        Measure("idle", idle),
        Measure("eight", eight, peers=False),
        Measure("lend", lend, peers=False),
        Measure("due", due, quick_peers=False),
        Measure("memory", memory, quick_peers=False),
        Measure("standby", standby),
        Measure("coroutines", coroutines, peers=False),
        Measure("canvas", canvas),
        Measure("bloat", bloat, peers=False),
        Measure("events", events, peers=False),
    )
}


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass(frozen=True)
class _Use:
    """Processor seconds used until some moment, by whom."""

    seconds: float
    worker: float
    server: float | None
    machine: float

    @classmethod
    def of(cls, system: System, worker: Worker) -> _Use:
        return cls(time.monotonic(), worker.cpu(), system.server_cpu(), machine.busy())

    def __sub__(self, other: _Use) -> _Use:
        server = None
        if self.server is not None and other.server is not None:
            server = self.server - other.server
        return _Use(
            self.seconds - other.seconds,
            self.worker - other.worker,
            server,
            self.machine - other.machine,
        )

    @property
    def others(self) -> float:
        """What the rest of the machine used: the noise in our figures."""
        return max(0.0, self.machine - self.worker - (self.server or 0.0))


def _server_us(system: System, before: float | None, jobs: int) -> Numbers:
    after = system.server_cpu()
    if before is None or after is None:
        return {}
    return {"server_us": 1e6 * (after - before) / jobs}


def _of(answer: dict[str, Any], *names: str) -> Numbers:
    return {name: answer[name] for name in names}


def _percentiles(name: str, seconds: list[float]) -> Numbers:
    return {
        f"{name}_p50_ms": 1e3 * percentile(seconds, 50),
        f"{name}_p99_ms": 1e3 * percentile(seconds, 99),
        f"{name}_max_ms": 1e3 * max(seconds),
    }


def _check_once(board: Board, jobs: int) -> None:
    """Figures of a queue that runs jobs twice would be worth nothing."""
    repeated = board.repeated(0, jobs)
    if repeated:
        raise RuntimeError(f"{repeated} of {jobs} jobs ran more than once")


def _settled(worker: Worker) -> machine.Memory:
    """The worker's memory once it does not grow any more."""
    memories = [worker.memory()]
    calm = 0
    while calm < 4 and len(memories) < 120:
        time.sleep(0.3)
        memories.append(worker.memory())
        calm = calm + 1 if memories[-1].pss - memories[-2].pss < 2**18 else 0
    return memories[-1]


@contextmanager
def _listener(url: str) -> Any:
    """Somebody who listens to events, and must have got some by the end."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into pgtasks.event_receivers (id, expires_at, position, name) "
            "values (gen_random_uuid(), now() + interval '1 hour', 0, 'bench')"
        )
        yield
        row = connection.execute("select is_called from pgtasks.event_ids").fetchone()
        if row != (True,):
            raise RuntimeError("the worker has told of no task, although somebody listens")


@contextmanager
def _open_transaction(url: str) -> Any:
    """A report that runs for hours: its snapshot keeps dead rows from being vacuumed."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select count(*) from pgtasks.jobs")
        yield
        connection.rollback()
