"""Write the reference pages that come out of the code: ``python docs/generate.py``.

With ``--check`` nothing is written; the status is 1 if a page is not current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgtasks.app.defaults import _TO_OLD_KEY, NAMESPACES, OPTIONS, Option
from pgtasks.telemetry.events import EVENTS

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"

sys.path.insert(0, str(HERE.parent))

from compat.conformance.adapted import LEDGER, load_adapted  # noqa: E402
from compat.conformance.targets import Targets  # noqa: E402
from compat.conformance.verdict import (  # noqa: E402
    load_differences,
    load_ledger,
    load_missing,
)

# Settings that are understood and wait for the part of pgtasks that obeys them.
WAITING = {
    "worker_disable_prefetch": "a choice; now each worker looks ahead by what tasks take",
    "worker_prefetch_multiplier": "a choice; now each worker looks ahead by what tasks take",
    "worker_start_method": "a choice; now children are forked from a template process",
}
TITLES = {
    "": "General",
    "database": "Database",
    "broker": "Connections",
    "task": "Tasks",
    "worker": "Workers",
    "result": "Results",
    "control": "Remote control",
    "beat": "Periodic tasks",
    "event": "Events",
    "security": "Security",
}

#: What is to be said of all settings of a part.
NOTES = {
    "beat": "Workers and beats send what they say: see [Schedule jobs](../how-to/schedule-jobs.md).",
    "security": "They are read by `app.setup_security()`.",
}

INTRODUCTION = """\
# Settings

<!-- Written by docs/generate.py from pgtasks/app/defaults.py. -->

Celery's settings under Celery's names, and a few of ours.
They are given to the application in Celery's ways:

```python
from pgtasks import Celery

app = Celery("proj", broker="postgresql://proj@db/proj")
app.conf.task_default_queue = "mailers"
app.conf.update(result_expires=3600, worker_lease=10.0)
```

or in a module (`app.config_from_object("proj.celeryconfig")`), in an object, under a prefix in Django's settings
(`namespace="CELERY"`), or for one run of a worker (`pgtasks -A proj worker -- worker.lease=10`).
Upper-case names from before Celery 4 are understood; the last column has them.
A name that nobody knows is warned of, with what it may have meant.

*Ours* marks what Celery does not have.
*Waits for* says that a setting is understood and has no effect yet, and what it waits for.
What never has any is listed [at the end](#accepted-without-effect).

Some things are not settings of an application but of its surroundings:
[environment variables](#environment-variables).
"""

ENVIRONMENT = """\
## Environment variables

| variable | |
|---|---|
| `PGTASKS_DATABASE_URL` | the database, where the setting `database_url` names none; goes before `broker_url` |
| `CELERY_BROKER_URL`, `CELERY_BROKER_READ_URL`, `CELERY_BROKER_WRITE_URL`, `CELERY_RESULT_BACKEND` | the settings of these names, before what the application says |
| `CELERY_CONFIG_MODULE` | module with the settings of an application that names none; `celeryconfig` |
| `CELERY_LOADER` | class that loads the configuration |
| `CELERY_…` | options of the [command line](command-line.md) |
| `PGTASKS_AS_CELERY` | the program's imports of `celery` find pgtasks, as with `pgtasks --as-celery` |
| `C_FORCE_ROOT` | lets a worker run as root although it accepts pickle |
| `C_STRICT_APP` | whoever needs an application must be given it: the current one is refused |
| `C_WNOCONF` | warns when there is no configuration module |
| `PGTASKS_DATA_DIR`, `PGTASKS_LINGER`, `PGTASKS_PG_BIN` | the [embedded server](../how-to/embedded-postgres.md) |
"""


DIFFERENCES = """\
# Differences from Celery

<!-- Written by docs/generate.py from compat/conformance/ledger.toml. -->

pgtasks follows Celery {celery}: names, signatures, behaviour, rough edges.
This is where it does not, as far as we know.
What is here and not in Celery has pages of its own;
[Move a Celery app](../how-to/move-a-celery-app.md) tells what to do about each when you move.
"""

MISSING = """\
## Names that are not here

Of the names that programs import from Celery these have no counterpart.
What is in none of its modules raises `ImportError`; what is only looked for when it is used says there what to use instead.

| name | why | instead |
|---|---|---|
"""

TESTS = """\
## Tests of Celery's that do not pass

Of Celery's own suite, as [the conformance suite](../how-to/run-the-conformance-suite.md) runs it, these do not pass
in the files that must. Any other that fails there fails `make conformance`, and so does one of these that passes after all.
"""

ADAPTED = """
## Tests of ours in place of Celery's

Tests of Celery's that put mocks in place of a broker, a consumer or a process cannot run here as they are.
These hold the same behaviour, each in place of the one on its left.

"""


def main() -> int:
    """Write the pages, or compare them."""
    check = "--check" in sys.argv
    stale = [
        (path, text)
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if not check:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(HERE.parent), "is not current" if check else "written")
    return int(check and bool(stale))


TELEMETRY = """\
# Telemetry

<!-- Written by docs/generate.py from pgtasks/telemetry/events.py. -->

Events tell what pgtasks does while it does it, with numbers: for metrics, traces and logs.
A handler is a function of yours that is called with each event that it is attached to.

```python
import pgtasks

seconds = []


def measure(event, measurements, metadata, config):
    seconds.append((metadata["task"], metadata["state"], measurements["duration"]))


pgtasks.telemetry.attach("measure", "pgtasks.job.stop", measure)
```

Attach where your tasks are defined: then every worker does.
Handlers are called where the event happens. For a job that is the process and thread that run it, in a prefork worker a child.
What happens waits for the handler, so it should be quick.
One that raises is detached, with an error in the log `pgtasks.telemetry`, and harms nothing else.
A handler is not called for what it does itself.
While nobody is attached, an event costs one test of a dict.

| Function | |
|---|---|
| `attach(id, event, handler, config=None)` | Calls `handler(event, measurements, metadata, config)`. `attach(event, handler)` makes up an id and returns it. Events are texts, or tuples of their parts. |
| `attach_many(id, events, handler, config=None)` | The same for several events under one id. |
| `detach(id)` | Ends it; says whether there was one. |
| `list_handlers(prefix="")` | The handlers of the events whose names begin so. |
| `execute(event, measurements, metadata)` | Tells of an event of your own, `"shop.order.paid"`. |
| `span(prefix, metadata)` | A `with` block that tells of its beginning (`….start`) and its end (`….stop` or `….exception`); what is put into the dict that it gives is metadata of the end. |
| `EVENTS` | The table below, by name. |

Celery's [signals](signals.md) are sent as well. They tell of tasks, in Celery's words; events have durations, and tell of the rest too.

## The default logger

```python
pgtasks.telemetry.attach_default_logger("info")
```

It writes one line of JSON for each event into the log `pgtasks.telemetry`:

```json
{{"source": "pgtasks", "event": "job.stop", "id": 71, "task_id": "01a2…", "task": "shop.mail", "queue": "mailers", "priority": 0, "attempt": 1, "max_attempts": null, "args": [1], "kwargs": {{}}, "tags": [], "meta": {{}}, "node": "celery@web1", "state": "success", "duration": 0.0213, "queue_time": 0.0042, "system_time": 1893456000.5}}
```

`events="all"`, or names without `pgtasks.`, whole (`"job.stop"`) or in part (`["job", "engine"]`), say which events; without it is all but `engine`.
`encode=False` leaves the message a dict, for formatters that write JSON themselves.
`arguments=False` leaves out the arguments of jobs; a call with `argsrepr` and `kwargsrepr` shows these in their place.
`detach_default_logger()` ends it.

## Events

Times are seconds: `duration` and `elapsed` by a clock that only goes forward, `system_time` since 1970,
`queue_time` from when the job was due until it began.

{events}

`args` and `kwargs` are None where they cannot be read; the job fails then. `job` is the row as it was claimed, `node` the name of the worker.
`kind` is `error`, or `exit` where something wanted to end the process; `error` is the exception, `reason` its `repr`, `stacktrace` its text.

`state` of `pgtasks.job.stop` and `pgtasks.job.exception` has Oban's words:

| state | the job is now | |
|---|---|---|
| `success` | `completed` | |
| `cancelled` | `cancelled` | by `Cancel`, or it had expired |
| `discard` | `discarded` | stop: by `Discard`; exception: it has failed and has no attempt left |
| `snoozed` | `scheduled` | by `Snooze` |
| `retry` | `retryable` | by `self.retry()` without an exception |
| `failure` | `retryable` | it has failed and will run again |
| `released` | `available` | by `Reject(requeue=True)` |

A job whose process is killed tells of its beginning only. So does one that reaches its hard time limit, which kills the process.
Jobs that run eagerly or inline tell of nothing.

A plugin adds what it has done to `pgtasks.plugin.stop`:
`stager` has `staged_count`, `lifeline` `rescued_count` and `discarded_count`, `pruner` `pruned_count`,
`reindexer` `reindexed_count` and `dropped_count`, `metrics` `queue_count` and `worker_count`, `cron` `inserted_count`.

### The engine

Statements on our own connections, each with `….start`, `….stop` and `….exception`.
They have `operation` and `database`, and at the end `duration` and `result`, which is what the statement has answered.

{engine}
"""


def pages() -> dict[Path, str]:
    """The pages that come out of the code, each with its text."""
    return {
        REFERENCE / "settings.md": settings(),
        REFERENCE / "celery-differences.md": differences(),
        REFERENCE / "telemetry.md": telemetry(),
    }


def telemetry() -> str:
    """The page about events, for whoever counts, times or logs them."""
    own = [each for each in EVENTS.values() if not each.name.startswith("pgtasks.engine.")]
    lines = ["| event | when | measurements | metadata |", "|---|---|---|---|"]
    lines += [
        f"| `{each.name}` | {each.when} | {_names(each.measurements)} | {_names(each.metadata)} |"
        for each in own
    ]
    engine = ["| events | what happens meanwhile |", "|---|---|"]
    for each in EVENTS.values():
        if each not in own and each.name.endswith(".start"):
            name = each.name.removesuffix("start")
            engine.append(f"| `{name}…` | {each.when.removeprefix('Before: ')} |")
    return TELEMETRY.format(events="\n".join(lines), engine="\n".join(engine))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def differences() -> str:
    """The page about what is otherwise than in Celery."""
    blocks = [DIFFERENCES.format(celery="5.7"), "## Behaviour", ""]
    for each in load_differences():
        blocks += [f"### {each.about}", ""]
        blocks += [f"* In Celery: {each.celery}", f"* Here: {each.here}"]
        blocks += [f"* Use instead: {each.instead}", ""] if each.instead else [""]
    names = [
        f"| `{each.name.replace('*', '…')}` | {each.reason} | {each.instead} |"
        for each in load_missing()
    ]
    blocks += [MISSING + "\n".join(names), "", TESTS]
    by_reason: dict[tuple[str, str, str], list[str]] = {}
    for known in load_ledger().values():
        why = (known.outcome, known.reason, known.user)
        by_reason.setdefault(why, []).append(known.test)
    for (outcome, reason, user), tests in by_reason.items():
        verb = "Skipped" if outcome == "skipped" else "Fails"
        told = f" What you see: {user.rstrip('.')}." if user else ""
        blocks.append(f"* {verb}: {reason.rstrip('.')}.{told}")
        blocks += [f"  * `{test}`{_class(test)}" for test in tests]
    return "\n".join(blocks) + "\n" + _adapted()


def _adapted() -> str:
    """What holds the behaviour that Celery's tests of class A1 are about."""
    blocks = [ADAPTED.rstrip("\n")]
    for path, tests in load_adapted().items():
        blocks += ["", f"### `{path}`", "", "| Celery's | ours |", "|---|---|"]
        for test, ours in tests.items():
            told = [
                f"differs: *{each.removeprefix(LEDGER)}*, above"
                if each.startswith(LEDGER)
                else f"`{each}`"
                for each in ours
            ]
            blocks.append(f"| `{test}` | {', '.join(told)} |")
    return "\n".join(blocks) + "\n"


def _class(test: str) -> str:
    return f" ({Targets.load().class_of(test)})"


def settings() -> str:
    """The page about settings."""
    blocks = [INTRODUCTION]
    for namespace, title in TITLES.items():
        names = [key for key in _of(namespace) if not _is_idle(OPTIONS[key])]
        note = f"{NOTES[namespace]}\n\n" if namespace in NOTES else ""
        blocks.append(f"## {title}\n\n{note}{_table(names)}")
    return "\n".join([*blocks, ENVIRONMENT, _idle()])


def waits_for(key: str) -> str | None:
    """What has to come before a setting has its effect; None if it has it."""
    if _is_idle(OPTIONS[key]):
        return None
    parts = key.split("_")
    for count in range(len(parts), 0, -1):
        if (reason := WAITING.get("_".join(parts[:count]))) is not None:
            return reason
    return None


def _of(namespace: str) -> list[str]:
    if not namespace:
        return [key for key, entry in NAMESPACES.items() if isinstance(entry, Option)]
    return [f"{namespace}_{name}" for name in NAMESPACES[namespace]]


def _table(keys: Iterable[str]) -> str:
    lines = ["| setting | default | | before Celery 4 |", "|---|---|---|---|"]
    for key in keys:
        option = OPTIONS[key]
        remarks = [option.doc]
        if option.ours:
            remarks.append("*Ours.*")
        if reason := waits_for(key):
            remarks.append(f"*Waits for {reason}.*")
        old = "" if option.ours else f"`{_TO_OLD_KEY[key]}`"
        text = " ".join(remarks).replace("|", r"\|")
        lines.append(f"| `{key}` | `{_shown(option.default)}` | {text} | {old} |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"timedelta(days={value.days})"
    if value == float("inf"):
        return 'float("inf")'
    return repr(value).replace("'", '"').replace("|", r"\|")


def _is_idle(option: Option) -> bool:
    return option.doc.startswith("Accepted")


def _idle() -> str:
    by_reason: dict[str, list[str]] = {}
    for key, option in OPTIONS.items():
        if _is_idle(option):
            by_reason.setdefault(option.doc.partition(": ")[2], []).append(key)
    lines = [
        "## Accepted without effect",
        "",
        "A configuration that was written for Celery loads as it is. These change nothing:",
        "",
    ]
    for reason, keys in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        lines.append(f"* {', '.join(f'`{key}`' for key in keys)}: {reason}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
