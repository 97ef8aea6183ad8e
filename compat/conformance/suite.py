"""Runs groups of Celery's tests, each in its own process, and collects what came out."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compat.conformance.integration import FOLDER, integration
from compat.conformance.targets import Targets, group_of
from compat.conformance.workshop import Workshop

__all__ = ["Result", "Run", "Suite"]


@dataclass(frozen=True)
class Result:
    """What became of one test."""

    outcome: str  # passed, failed or skipped
    seconds: float
    why: str


@dataclass
class Run:
    """What came out of a run."""

    package: str = ""  # whose tests they are, and of which version
    files: list[str] = field(default_factory=list)
    tests: dict[str, Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # by group
    unloadable: dict[str, str] = field(default_factory=dict)  # file or group → why
    missing: set[str] = field(default_factory=set)  # modules without a counterpart

    def as_json(self) -> dict[str, Any]:
        return {
            "package": self.package,
            "files": self.files,
            "seconds": self.seconds,
            "unloadable": self.unloadable,
            "missing": sorted(self.missing),
            "tests": {name: asdict(test) for name, test in self.tests.items()},
        }


class Suite:
    """The suite in its workshop.

    Args:
        workshop: Where it is.
        targets: The classes of its tests.
        classes: Those that are run.
        timeout: Seconds that a test may take, if it does not say itself; by default as many
            as its kind needs.
        only: By file, the ids of the tests that are run of it; all of other files.
    """

    def __init__(
        self,
        workshop: Workshop,
        targets: Targets,
        classes: Sequence[str],
        timeout: float | None,
        only: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.workshop = workshop
        self.targets = targets
        self.classes = classes
        self.timeout = timeout
        self.only = only or {}

    def run(self, files: Iterable[str], progress: Callable[[str], object]) -> Run:
        """Run the files, group by group."""
        package = self.workshop.package
        run = Run(f"{package.name} {package.version}", files=list(files))
        groups: dict[str, list[str]] = {}
        for path in run.files:
            groups.setdefault(group_of(path), []).append(path)
        with ExitStack() as stack:
            servers: dict[str, str] = {}
            for group, members in groups.items():
                progress(f"{group}: {self.targets.count(members, self.classes)} tests …")
                started = time.monotonic()
                if group.startswith(FOLDER) and not servers:
                    servers = stack.enter_context(integration(self.workshop))
                environment = servers if group.startswith(FOLDER) else {}
                self._run_group(group, members, run, environment)
                run.seconds[group] = round(time.monotonic() - started, 1)
        return run

    def _run_group(
        self, group: str, files: list[str], run: Run, surroundings: Mapping[str, str]
    ) -> None:
        name = group.replace("/", "-")
        log = self.workshop.logs / f"{name}.log"
        record = self.workshop.logs / f"{name}.jsonl"
        record.write_bytes(b"")
        record.chmod(0o666)
        environment = {
            **surroundings,
            "PGTASKS_CONFORMANCE_CLASSES": ",".join(self.classes),
            "PGTASKS_CONFORMANCE_RECORD": str(record),
            "PGTASKS_CONFORMANCE_TARGETS": self.workshop.package.targets,
        }
        timeout = self.timeout or (600 if surroundings else 120)
        more = WITH_A_WORKER if surroundings else []
        chosen = [name for path in files for name in self.only.get(path, [path])]
        process = self.workshop.start(
            [*PYTEST, *more, f"--timeout={timeout}", *chosen], environment, log
        )
        # A test that hangs ends by its own timeout; this is for an interpreter that does.
        each = 10 if surroundings else 2
        patience = timeout * 3 + each * self.targets.count(files, self.classes)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            run.unloadable[group] = f"did not end within {patience:.0f} s and was killed"
        finally:
            # Also when the runner is told to stop: a worker of theirs must not stay.
            process.kill()
            process.wait()
        self._read(record, run)
        if not any(group_of(test.partition("::")[0]) == group for test in run.tests):
            run.unloadable.setdefault(group, _end_of(log))

    def _read(self, record: Path, run: Run) -> None:
        for line in record.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "test" in entry:
                run.tests[entry["test"]] = Result(
                    entry["outcome"], entry["seconds"], entry["why"]
                )
            elif "file" in entry:
                run.unloadable[entry["file"]] = entry["why"]
            else:
                run.missing.update(entry["missing"])


#: The alias comes first of all plugins. Those of a Celery that is installed, and
#: pytest's cache, stay out.
PYTEST = [
    *("-m", "pytest", "-q", "--tb=short", "-rfE"),
    *("-p", "conformance.plugin", "-p", "no:celery", "-p", "no:pytest_celery"),
    *("-p", "no:cacheprovider", "--continue-on-collection-errors"),
]

#: With the fixtures that make a worker, and without what runs tests again that fail: they
#: have to pass at once.
WITH_A_WORKER = ["-p", "celery.contrib.pytest", "-p", "no:rerunfailures"]


def _end_of(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("E ")]
    told = errors or [line for line in lines if line] or ["the process left no word"]
    return f"{told[-1].removeprefix('E ').strip()} (see {log})"
