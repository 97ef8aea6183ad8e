"""Celery's public names: each under the same path here, taking what Celery's takes.

``compat/surface.json`` has the names of Celery that programs use, read off Celery 5.7:
those of tier core are in most programs, those of tier common in a good share, or in
well-known packages that build on Celery. What is missing is in the ledger, with its
reason, and the documentation has the list.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compat.conformance.verdict import load_missing
from pgtasks import Celery, _state
from pgtasks.exceptions import ImproperlyConfigured

SURFACE = json.loads(
    (Path(__file__).parents[2] / "compat" / "surface.json").read_text(encoding="utf-8")
)
LEDGER = load_missing()
COMMON_ENOUGH = 0.97

P = inspect.Parameter
POSITIONAL = (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)


class Gap(NamedTuple):
    """A name that is not here, or does not take what Celery's takes."""

    name: str
    tier: str
    why: str


# ── what Celery's takes, and whether ours does ──────────────────────────────────────────


@pytest.fixture(autouse=True)
def _an_app_of_its_own() -> Iterator[None]:
    """Proxies lead to the current application, which another test may have chosen."""
    before = _state._tls.current_app
    with Celery("surface", broker="memory://") as app:
        app.finalize()
        yield
    _state._tls.current_app = before


def parameters(takes: list[str]) -> list[P]:
    """The parameters behind ``["self", "args=", "*", "retry=", "**options"]``."""
    found: list[P] = []
    kind = P.POSITIONAL_OR_KEYWORD
    for word in takes:
        if word == "/":
            found = [each.replace(kind=P.POSITIONAL_ONLY) for each in found]
        elif word == "*":
            kind = P.KEYWORD_ONLY
        elif word.startswith("**"):
            found.append(P(word[2:], P.VAR_KEYWORD))
        elif word.startswith("*"):
            found.append(P(word[1:], P.VAR_POSITIONAL))
            kind = P.KEYWORD_ONLY
        else:
            default = None if word.endswith("=") else P.empty
            found.append(P(word.rstrip("="), kind, default=default))
    return found


def calls(theirs: list[P]) -> Iterator[tuple[list[int], dict[str, int]]]:
    """The ways to call it that its parameters allow: the shortest and the longest ones."""
    positional = [each for each in theirs if each.kind in POSITIONAL]
    needed = [0 for each in positional if each.default is P.empty]
    by_name = [each for each in theirs if each.kind is P.KEYWORD_ONLY]
    needed_names = {each.name: 0 for each in by_name if each.default is P.empty}
    everything = [each for each in theirs if each.kind is P.POSITIONAL_OR_KEYWORD]
    kinds = {each.kind for each in theirs}
    yield needed, needed_names
    yield [0] * len(positional), needed_names
    yield (
        [0 for each in positional if each.kind is P.POSITIONAL_ONLY],
        {each.name: 0 for each in [*everything, *by_name]},
    )
    if P.VAR_POSITIONAL in kinds:
        yield [0] * (len(positional) + 3), needed_names
    if P.VAR_KEYWORD in kinds:
        yield needed, {**needed_names, "an_option_of_ones_own": 0}


def refusal(takes: list[str], ours: Any) -> str | None:
    """What of a signature ours does not take; None if it takes everything."""
    try:
        signature = inspect.signature(ours)
    except (TypeError, ValueError) as error:
        return f"has no signature: {error}"
    theirs = parameters(takes)
    for args, kwargs in calls(theirs):
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            return f"{error}; Celery's takes ({', '.join(takes)})"
    mine = [each for each in signature.parameters.values() if each.kind in POSITIONAL]
    named = [each for each in theirs if each.kind is P.POSITIONAL_OR_KEYWORD]
    for one, other in zip(mine, named, strict=False):
        if {one.name, other.name} & {"self", "cls"}:
            continue
        if one.name != other.name and len(mine) >= len(named):
            return f"has {one.name!r} where Celery's has {other.name!r}"
    return None


# ── the walk ────────────────────────────────────────────────────────────────────────────


@cache
def gaps(*, members: bool) -> list[Gap]:
    """All that is missing: of the modules' names, or of their classes' members."""
    found: list[Gap] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, names in SURFACE["modules"].items():
            for name, told in names.items():
                looked = list(
                    _members(path, name, told) if members else _name(path, name, told)
                )
                found += looked
    return found


def _find(path: str, name: str) -> Any:
    module = importlib.import_module("pgtasks" + path.removeprefix("celery"))
    return getattr(module, name)


def _absent(path: str, name: str) -> str | None:
    """Why a name is not there. One that needs a package that is not installed, is."""
    try:
        _find(path, name)
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        return None if root == "django" else f"{error}"
    except (AttributeError, ImportError) as error:
        return f"{error}"
    return None


def _name(path: str, name: str, told: dict[str, Any]) -> Iterator[Gap]:
    why = _absent(path, name)
    if why is None and "takes" in told and name != "DjangoTask":
        why = refusal(told["takes"], _find(path, name))
    if why is None and getattr(_find_or_none(path, name), "__absent__", False):
        why = "says what to use instead"
    if why is not None:
        yield Gap(f"{path}:{name}", told["tier"], why)


def _members(path: str, name: str, told: dict[str, Any]) -> Iterator[Gap]:
    owner = _find_or_none(path, name)
    if owner is None or getattr(owner, "__absent__", False):
        return
    for member, takes in told.get("members", {}).items():
        whole = f"{path}:{name}.{member}"
        if not _has(owner, member):
            yield Gap(whole, told["tier"], "is not there")
        elif takes is not None:
            ours = inspect.getattr_static(owner, member)
            if isinstance(ours, (classmethod, staticmethod)) or "self" not in takes[:1]:
                ours = getattr(owner, member)
                takes = takes[1:] if takes[:1] in (["self"], ["cls"]) else takes
            why = refusal(takes, ours)
            if why is not None:
                yield Gap(whole, told["tier"], why)


def _find_or_none(path: str, name: str) -> Any:
    try:
        return _find(path, name)
    except (AttributeError, ImportError):
        return None


def _has(owner: Any, member: str) -> bool:
    """Whether a class has a member, be it one that only its objects are given."""
    if hasattr(owner, member):
        return True
    given = re.compile(rf"self\.{member}\b[^=(\n]*=(?!=)")
    return any(
        member in vars(base).get("__annotations__", ()) or given.search(_source(base))
        for base in inspect.getmro(owner)
        if base.__module__.startswith("pgtasks")
    )


@cache
def _source(owner: type) -> str:
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):
        return ""


def unlisted(found: list[Gap]) -> list[str]:
    return [
        f"{gap.tier}: {gap.name} {gap.why}"
        for gap in found
        if not any(fnmatchcase(gap.name, entry.name) for entry in LEDGER)
    ]


# ── what must hold ──────────────────────────────────────────────────────────────────────


def test_every_name_of_celery_is_here_or_in_the_ledger() -> None:
    missing = unlisted(gaps(members=False))

    assert not missing, "\n" + "\n".join(missing)


def test_every_member_of_its_classes_is_here_or_in_the_ledger() -> None:
    missing = unlisted(gaps(members=True))

    assert not missing, "\n" + "\n".join(missing)


def test_no_core_name_is_missing() -> None:
    missing = [gap for gap in gaps(members=False) if gap.tier == "core"]

    assert missing == []


def test_hardly_a_common_name_is_missing() -> None:
    common = [
        f"{path}:{name}"
        for path, names in SURFACE["modules"].items()
        for name, told in names.items()
        if told["tier"] == "common"
    ]
    missing = [gap.name for gap in gaps(members=False) if gap.tier == "common"]

    assert 1 - len(missing) / len(common) >= COMMON_ENOUGH, missing


def test_a_request_has_the_fields_of_celerys() -> None:
    from pgtasks.app.task import Context

    context = Context()

    assert [field for field in SURFACE["request"] if not hasattr(context, field)] == []


def test_the_ledger_lists_nothing_that_is_here() -> None:
    found = [gap.name for gap in [*gaps(members=False), *gaps(members=True)]]
    needless = [
        entry.name
        for entry in LEDGER
        if not any(fnmatchcase(name, entry.name) for name in found)
    ]

    assert needless == []


def test_a_name_that_is_not_here_says_what_to_use_instead() -> None:
    listed = [
        gap.name
        for gap in gaps(members=False)
        if any(fnmatchcase(gap.name, entry.name) for entry in LEDGER)
    ]
    assert listed != []
    for whole in listed:
        path, _, name = whole.partition(":")
        absent = _find(path, name)
        needed = [
            None
            for each in inspect.signature(absent).parameters.values()
            if each.default is P.empty
        ]

        with pytest.raises(ImproperlyConfigured, match=name) as caught:
            absent(*needed)

        assert len(str(caught.value)) > 60, "an error is a remedy"


# ── the measure itself ──────────────────────────────────────────────────────────────────


class TestTheMeasure:
    def test_a_function_that_takes_more_takes_what_celerys_takes(self) -> None:
        def ours(a, b=1, *, c=2, **more):
            raise AssertionError

        assert refusal(["a", "b=", "**options"], ours) is None

    @pytest.mark.parametrize(
        "takes",
        [
            ["a", "b=", "c="],
            [],
            ["a", "b=", "**kw"],
            ["a", "*args"],
            ["b", "a="],
            ["a", "z="],
        ],
        ids=" ".join,
    )
    def test_one_that_takes_less_does_not(self, takes: list[str]) -> None:
        def ours(a, b=1):
            raise AssertionError

        assert refusal(takes, ours) is not None

    def test_a_missing_module_is_told(self) -> None:
        assert "celery.no" not in SURFACE["modules"]
        assert "No module named" in str(_absent("celery.no", "Name"))
