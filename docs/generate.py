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

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"

sys.path.insert(0, str(HERE.parent))

from compat.conformance.targets import Targets  # noqa: E402
from compat.conformance.verdict import (  # noqa: E402
    load_differences,
    load_ledger,
    load_missing,
)

# Settings that are understood and wait for the part of pgtasks that obeys them.
WAITING = {
    "event": "events",
    "task_default_rate_limit": "rate limits",
    "task_join_transaction": "enqueueing in the caller's transaction",
    "task_send_sent_event": "events",
    "worker_autoscaler": "`--autoscale`",
    "worker_disable_prefetch": "a choice; now each worker looks ahead by what tasks take",
    "worker_disable_rate_limits": "rate limits",
    "worker_enable_soft_shutdown_on_idle": "soft shutdown",
    "worker_pool_restarts": "`pool_restart`",
    "worker_prefetch_multiplier": "a choice; now each worker looks ahead by what tasks take",
    "worker_send_task_events": "events",
    "worker_soft_shutdown_timeout": "soft shutdown",
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
    "beat": "They are for `pgtasks.beat.Service(app).start()`; "
    "the command `beat` comes with a later version.",
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


def pages() -> dict[Path, str]:
    """The pages that come out of the code, each with its text."""
    return {
        REFERENCE / "settings.md": settings(),
        REFERENCE / "celery-differences.md": differences(),
    }


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
