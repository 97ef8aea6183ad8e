"""Properties of classes, whichever half of them is there."""

from __future__ import annotations

from typing import Any

import pytest

from pgtasks.local import class_property


class Place:
    where = "here"

    def _get(cls) -> str:
        return cls.where

    def _set(cls, value: str) -> None:
        cls.where = value

    read_only: Any = class_property(_get)
    write_only: Any = class_property(setter=_set)
    both: Any = class_property(_get).setter(_set)


def test_a_class_property_is_read_from_the_class():
    assert Place.read_only == Place().read_only == "here"


def test_a_class_property_without_a_setter_cannot_be_set():
    with pytest.raises(AttributeError, match="'_get' cannot be set"):
        Place().read_only = "there"


def test_a_class_property_without_a_getter_cannot_be_read():
    with pytest.raises(AttributeError, match="'_set' cannot be read"):
        _ = Place.write_only


def test_a_class_property_with_both_is_set_through_instances(monkeypatch):
    monkeypatch.setattr(Place, "where", "here")
    Place().both = "there"

    assert Place.both == "there"
