"""Unique jobs: what ``unique=`` and ``replace=`` say of a task or a call."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from numbers import Real
from typing import Any, NamedTuple

from pgtasks.exceptions import UniqueStatesWarning
from pgtasks.states import (
    AVAILABLE,
    CANCELLED,
    COMPLETED,
    DISCARDED,
    EXECUTING,
    RETRYABLE,
    SCHEDULED,
    SUSPENDED,
)
from pgtasks.utils.imports import qualname

__all__ = ["Rule", "check_options", "check_task", "rule_for", "rule_of"]

UNTIL_EXECUTING, WHILE_EXECUTING = NAMES = ("until_executing", "while_executing")

UNFINISHED = (SUSPENDED, SCHEDULED, AVAILABLE, EXECUTING, RETRYABLE)
STATES = (*UNFINISHED, COMPLETED, DISCARDED, CANCELLED)

GROUPS = {
    "all": STATES,
    "incomplete": UNFINISHED,
    "scheduled": (SCHEDULED,),
    "successful": (*UNFINISHED, COMPLETED),
    UNTIL_EXECUTING: tuple(state for state in UNFINISHED if state != EXECUTING),
}
"""Names for sets of states: Oban's, and one of ours."""

FIELDS = ("args", "kwargs", "task", "queue", "meta")
REPLACEABLE = (
    "args", "kwargs", "max_attempts", "meta", "priority", "queue", "scheduled_at", "tags",
    "task",
)  # fmt: skip

#: Oban's word for a task.
_ALIASES = {"worker": "task"}

LONGEST = 100 * 365.25 * 86400
"""A century: the longest period that is one."""


class Rule(NamedTuple):
    """What ``unique=`` says, checked.

    Attributes:
        fields: What of a call is compared.
        keys: Names of the arguments, and of the entries of ``meta``, that are; None for
            all of them.
        document: What the statement is told, see `NewJob.uniqueness`; None if many such
            jobs may wait and one runs at a time.
        tag: What keeps keys of other fields apart from those by this rule.
    """

    fields: tuple[str, ...]
    keys: tuple[str, ...] | None
    document: dict[str, Any] | None
    tag: str


def rule_for(task: Any, given: dict[str, Any]) -> Rule | None:
    """The rule for one call, whose options about it are taken out of ``given``.

    Args:
        task: The task, if it is known here.
        given: The options of the call; what it says takes the place of what the task says.

    Raises:
        TypeError: It is of the wrong type.
        ValueError: There is no such field, state, period …
    """
    unique = given.pop("unique", None)
    replace = given.pop("replace", None)
    replace_args = given.pop("replace_args", None)
    if unique is None and replace is None and replace_args is None:
        own: Rule | None = task and rule_of_task(task)
        return own
    if unique is None:
        unique = getattr(task, "unique", None)
    if replace is None:
        replace = getattr(task, "unique_replace", None)
    if replace_args is None:
        replace_args = getattr(task, "replace_args", None)
    return rule_of(unique, replace, replace_args)


def rule_of_task(task: Any) -> Rule | None:
    """The rule of a task, which is read once for each thing it says."""
    said = (
        getattr(task, "unique", None),
        getattr(task, "unique_replace", None),
        getattr(task, "replace_args", None),
    )
    if said == (None, None, None):
        return None
    kept = task.__dict__.get("_unique_rule")
    if kept is None or kept[0] != repr(said):
        kept = task.__dict__["_unique_rule"] = (repr(said), rule_of(*said))
    rule: Rule | None = kept[1]
    return rule


def check_options(fun: Any, options: Mapping[str, Any]) -> None:
    """`check_task` for a function that is decorated now and becomes a task when it is used.

    Args:
        fun: The function.
        options: What the decorator is given.
    """
    replace = options.get("replace", options.get("unique_replace"))
    _checked(qualname(fun), options["unique"], replace, options.get("replace_args"))


def check_task(task: Any) -> None:
    """Refuse what cannot be meant, and warn of gaps, when the task is defined.

    Args:
        task: The class of the task.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: There is no such field, state, period …
    """
    unique = task.unique
    rule = _checked(task.name, unique, task.unique_replace, task.replace_args)
    if rule is None or rule.document is None:
        return
    if rule.document["blocks"] == list(GROUPS[UNTIL_EXECUTING]):
        return
    missing = gaps(rule.document["blocks"])
    if missing and "_told_of_gaps" not in task.__dict__:
        task._told_of_gaps = True
        warnings.warn(
            f"Task {task.name!r} is unique in the states "
            f"{', '.join(rule.document['blocks'])}, and its jobs pass through "
            f"{' and '.join(missing)} in between: another of the same key can be sent "
            f"meanwhile. Add {' and '.join(missing)}, or name a group: 'incomplete', "
            f"'successful'.",
            UniqueStatesWarning,
            stacklevel=2,
        )


def _checked(name: str, *said: Any) -> Rule | None:
    try:
        return rule_of(*said)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Task {name!r}: {error}") from None


def rule_of(unique: Any, replace: Any = None, replace_args: Any = None) -> Rule | None:
    """What these options say together; None if that is nothing.

    Raises:
        TypeError: One is of the wrong type.
        ValueError: There is no such field, state, period …
    """
    if unique is None or unique is False:
        if unique is None and (replace or replace_args):
            raise ValueError(
                "replace= and replace_args= say what becomes of the job that has the key; "
                "without unique= there is none."
            )
        return None
    if unique is True:
        unique = {}
    if isinstance(unique, str):
        if unique not in NAMES:
            raise ValueError(
                f"unique={unique!r}: there are {UNTIL_EXECUTING!r} (the key is free when the "
                f"job starts) and {WHILE_EXECUTING!r} (many may wait, one runs at a time)."
            )
        unique = {"states": unique}
    if not isinstance(unique, Mapping):
        raise TypeError(
            f"unique={unique!r}: give True, False, {UNTIL_EXECUTING!r}, "
            f"{WHILE_EXECUTING!r} or a dict with {', '.join(map(repr, _KNOWN))}."
        )
    unknown = [key for key in unique if key not in _KNOWN]
    if unknown:
        raise ValueError(
            f"unique={dict(unique)!r}: {unknown[0]!r} is not among "
            f"{', '.join(map(repr, _KNOWN))}."
        )
    fields = _fields(unique.get("fields"))
    keys = _keys(unique.get("keys"), fields)
    if unique.get("states") == WHILE_EXECUTING:
        beside = [each for each in unique if each not in ("states", "fields", "keys")]
        if beside or replace or replace_args:
            raise ValueError(
                f"unique: {WHILE_EXECUTING!r} keeps no job out, so that there is no period "
                f"and nothing to replace: leave "
                f"{', '.join(beside) or 'replace and replace_args'} away."
            )
        return _rule(fields, keys, None)
    document: dict[str, Any] = {"blocks": _blocks(unique)}
    period = _period(unique.get("period"))
    if period is not None:
        document["period"] = period
    if _timestamp(unique.get("timestamp")):
        document["by_schedule"] = True
    replaces = _replaces(
        unique.get("replace") if replace is None else replace,
        unique.get("replace_args") if replace_args is None else replace_args,
    )
    if replaces:
        document["replaces"] = replaces
    return _rule(fields, keys, document)


_KNOWN = ("period", "fields", "keys", "states", "timestamp", "replace", "replace_args")


def _rule(
    fields: Sequence[str], keys: tuple[str, ...] | None, document: dict[str, Any] | None
) -> Rule:
    tag = ",".join(fields) + ("" if keys is None else "|" + ",".join(sorted(keys)))
    return Rule(tuple(fields), keys, document, tag)


def _listed(name: str, value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"unique: {name}={value!r} must be a list of names.")
    found = list(dict.fromkeys(value))
    for each in found:
        if not isinstance(each, str):
            raise TypeError(f"unique: {name}={value!r}: {each!r} is no name.")
    return found


def _among(name: str, value: Any, known: Sequence[str]) -> list[str]:
    found = [_ALIASES.get(each, each) for each in _listed(name, value)]
    for each in found:
        if each not in known:
            raise ValueError(
                f"unique: {name}={value!r}: {each!r} is not among "
                f"{', '.join(map(repr, known))}."
            )
    return found


def _fields(value: Any) -> tuple[str, ...]:
    if value is None:
        return FIELDS[:4]
    found = _among("fields", value, FIELDS)
    if not found:
        raise ValueError(
            "unique: fields=[] compares nothing, so that all jobs were the same. Name some "
            f"of {', '.join(map(repr, FIELDS))}."
        )
    return tuple(each for each in FIELDS if each in found)


def _keys(value: Any, fields: Collection[str]) -> tuple[str, ...] | None:
    if value is None:
        return None
    keys = tuple(_listed("keys", value))
    if not keys:
        return None
    if not {"args", "kwargs", "meta"}.intersection(fields):
        raise ValueError(
            f"unique: keys={value!r} are looked up in the arguments and in meta, of which "
            f"none is in fields={list(fields)!r}."
        )
    return keys


def _period(value: Any) -> float | None:
    if value is None or value is True or value == "forever":
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"unique: period={value!r} must be seconds, a timedelta or 'forever'."
        )
    seconds = float(value)
    if seconds == float("inf"):
        return None
    if not 0 < seconds <= LONGEST:
        raise ValueError(
            f"unique: period={value!r} must be more than 0 seconds and at most a century; "
            f"'forever' is more."
        )
    return seconds


def _blocks(unique: Mapping[str, Any]) -> list[str]:
    states = unique.get("states")
    if states is None:
        # A period is about what was done lately; without one it is about what is to do.
        states = "incomplete" if unique.get("period") is None else "successful"
    if isinstance(states, str):
        if states not in GROUPS:
            raise ValueError(
                f"unique: states={states!r} is none of the groups "
                f"{', '.join(map(repr, (*GROUPS, WHILE_EXECUTING)))}; a single state goes "
                f"into a list."
            )
        return list(GROUPS[states])
    found = _among("states", states, STATES)
    if not {SCHEDULED, AVAILABLE}.intersection(found):
        raise ValueError(
            f"unique: states={list(states)!r} has none in which a job begins, so that two "
            f"that are sent together would both pass: add 'available' and 'scheduled'. Have "
            f"one run at a time with unique={WHILE_EXECUTING!r}."
        )
    return [each for each in STATES if each in found]


def gaps(blocks: Collection[str]) -> list[str]:
    """States through which a job passes between two of ``blocks``, and in which it is free."""
    found = []
    later = {EXECUTING, RETRYABLE, COMPLETED, DISCARDED, CANCELLED}
    if SCHEDULED not in blocks or (AVAILABLE not in blocks and later.intersection(blocks)):
        found += [each for each in (SCHEDULED, AVAILABLE) if each not in blocks]
    if EXECUTING not in blocks and (later - {EXECUTING}).intersection(blocks):
        found.append(EXECUTING)
    if EXECUTING in blocks and RETRYABLE not in blocks:
        found.append(RETRYABLE)
    return found


def _timestamp(value: Any) -> bool:
    """Whether the period counts from the due date."""
    if value not in (None, "inserted_at", "scheduled_at"):
        raise ValueError(
            f"unique: timestamp={value!r}: a period counts from 'inserted_at' or from "
            f"'scheduled_at'."
        )
    return bool(value == "scheduled_at")


def _replaces(replace: Any, replace_args: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if isinstance(replace, Mapping):
        for state, names in replace.items():
            if state not in UNFINISHED:
                raise ValueError(
                    f"replace={replace!r}: {state!r} is not among "
                    f"{', '.join(map(repr, UNFINISHED))}; a job that is over stays what it "
                    f"was."
                )
            found[state] = _replaceable(names)
    elif replace is not None and replace is not False:
        found = {state: _replaceable(replace) for state in UNFINISHED}
    if replace_args not in (None, True, False):
        raise TypeError(f"replace_args={replace_args!r}: it is True or False.")
    if replace_args:
        for state in UNFINISHED:
            found[state] = list(dict.fromkeys([*found.get(state, ()), "args", "kwargs"]))
    return {state: names for state, names in found.items() if names}


def _replaceable(names: Any) -> list[str]:
    try:
        return _among("replace", names, REPLACEABLE)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).removeprefix("unique: ")) from None
