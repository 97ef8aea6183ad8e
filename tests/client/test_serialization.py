from __future__ import annotations

import json
import math
import random
import string
import zlib
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import kombu.serialization
import pytest
from kombu.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    SerializerNotInstalled,
)
from kombu.utils import json as kombu_json

from pgtasks.exceptions import ImproperlyConfigured, PayloadTooLarge
from pgtasks.serialization import (
    JSON,
    Payload,
    dump_arguments,
    dumps,
    load_arguments,
    loads,
)

PICKLE = "application/x-python-serialize"
Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def carried(
    payload: Payload, accept: tuple[str, ...] = (JSON,), most: int | None = None
) -> Any:
    return load_arguments(*payload, accept, most)


# ── JSON is kombu's ─────────────────────────────────────────────────────────────────────

ROUND_TRIPS = {
    "bidi": "\u202egnp.exe",
    "big": 2**200,
    "bytes": b"\xff\x00",
    "date": date(2026, 3, 29),
    "datetime": datetime(2026, 3, 29, 2, 30),
    "datetime, aware": datetime(2026, 1, 1, tzinfo=timezone.utc),
    "datetime, odd offset": datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=30))),
    "datetime.max": datetime.max,
    "decimal": Decimal("1.10"),
    "deep": nested(500),
    "empty bytes": b"",
    "false": False,
    "infinity": [math.inf, -math.inf],
    "longest integer": 10**4299,
    "lone surrogate": "\ud800",
    "none": None,
    "nul": "a\0b",
    "nul in a key": {"a\0": 1},
    "order of keys": {"zz": 1, "a": 2},
    "reversed pair": "\udc00\ud800",
    "text bytes": b"abc",
    "time": time(12, 30, 1, 5),
    "uuid": UUID(int=7),
    "word": "__type__",
    "words in a list": ["__type__", "__value__"],
    "words among others": {"__type__": "x", "__value__": "y", "more": 1},
    "zwj": "\U0001f468\u200d\U0001f469",
}


@pytest.mark.parametrize("value", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    text = dumps(value)

    assert loads(text) == value
    assert text == kombu_json.dumps(value)


def test_a_negative_zero_keeps_its_sign_and_nan_is_none_other() -> None:
    assert math.copysign(1, loads(dumps(-0.0))) == -1
    assert math.isnan(loads(dumps(math.nan)))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        ({None: 1}, {"null": 1}),
        ({True: 1}, {"true": 1}),
        (Colour.RED, 1),
        (OrderedDict(a=1), {"a": 1}),
    ],
)
def test_what_json_does_not_know_comes_back_as_the_nearest(value: Any, read: Any) -> None:
    assert loads(dumps(value)) == read
    assert dumps(value) == kombu_json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, 1j, object(), lambda: 1, iter([]), ValueError("x"), bytearray(b"x"),
        timedelta(1), circular(), nested(20_000), 10**5000, {(1, 2): 3}, {b"x": 1},
    ],
    ids=[
        "set", "complex", "object", "function", "iterator", "exception", "bytearray",
        "timedelta", "circular", "deep", "long integer", "tuple as key", "bytes as key",
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="another serializer"):
        dumps(value)


def test_a_refused_generator_has_not_been_consumed() -> None:
    generator = (number for number in [1, 2])

    with pytest.raises(EncodeError):
        dumps([generator])

    assert list(generator) == [1, 2]


@pytest.mark.parametrize(
    "disguise",
    [
        {"__type__": "datetime", "__value__": "not a date"},
        {"__type__": "os.system", "__value__": "id"},
        {"__type__": "uuid", "__value__": {"no": "hex"}},
        [{"deep": [{"__type__": None, "__value__": 1}]}],
    ],
)
def test_what_could_not_be_read_again_is_refused_where_it_is_sent(disguise: Any) -> None:
    with pytest.raises(EncodeError, match="__type__"):
        dumps(disguise)


def test_what_reads_as_a_date_is_one() -> None:
    assert loads(dumps({"__type__": "date", "__value__": "2026-01-01"})) == date(2026, 1, 1)


def test_a_key_spelled_with_escapes_is_seen_through() -> None:
    for key in ("\\u005f_type__", "__\\u0074ype__", "__typ\\u0065__", "__t\\u0079pe__"):
        text = f'[{{"{key}": "date", "__value__": "2026-01-01"}}]'

        assert loads(text) == kombu_json.loads(text) == [date(2026, 1, 1)]


@pytest.mark.parametrize(
    "text",
    ["", "{", "nope", '{"a": 1} x', '"\\ud8', "1" * 5000, "[" * 100_000, "\0"],
)
def test_what_is_no_json_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        loads(text)


def test_the_quick_way_writes_and_reads_what_kombu_does() -> None:
    source = random.Random(20260101)
    letters = string.printable + 'äß€\u2028\ud800\0"\\/\x7f😀'

    def value(depth: int) -> Any:
        kind = source.randrange(12 if depth else 8)
        if kind < 2:
            return source.choice([None, True, False])
        if kind < 4:
            return source.choice([0, -1, 2**63, source.randrange(-(10**30), 10**30)])
        if kind < 5:
            return source.choice([0.1, -0.0, 1e300, math.inf, source.random()])
        if kind < 8:
            return "".join(source.choices(letters, k=source.randrange(12)))
        if kind < 10:
            return [value(depth - 1) for _ in range(source.randrange(4))]
        keys = ["__type__", "__value", "a", "ü", 5, None, True, 1.5]
        return {source.choice(keys): value(depth - 1) for _ in range(source.randrange(4))}

    for _ in range(2000):
        one = value(4)
        text = kombu_json.dumps(one)
        assert dumps(one) == text
        assert loads(text) == kombu_json.loads(text)


def test_a_json_serializer_of_the_programs_own_is_used() -> None:
    registry = kombu.serialization.registry
    encoder, decoder = registry._encoders["json"], registry._decoders[JSON]
    registry.register(
        "json",
        lambda value: "own:" + json.dumps(value),
        lambda text: json.loads(text[4:]),
        JSON,
    )
    try:
        assert dumps([1]) == "own:[1]"
        assert loads("own:[1]") == [1]
    finally:
        registry._encoders["json"], registry._decoders[JSON] = encoder, decoder


def test_a_type_registered_with_kombu_is_written_and_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kombu_json, "_encoders", dict(kombu_json._encoders))
    monkeypatch.setattr(kombu_json, "_decoders", dict(kombu_json._decoders))
    kombu_json.register_type(
        timedelta,
        "delta",
        timedelta.total_seconds,
        lambda seconds: timedelta(seconds=seconds),
    )

    assert loads(dumps([timedelta(1)])) == [timedelta(1)]


def test_an_object_that_knows_how_to_be_json_is_asked() -> None:
    class Money:
        def __json__(self) -> Any:
            return {"amount": Decimal("1.5")}

    assert loads(dumps(Money())) == {"amount": Decimal("1.5")}


# ── arguments ───────────────────────────────────────────────────────────────────────────


def test_json_arguments_stand_in_columns_of_their_own() -> None:
    payload = dump_arguments((1, "a"), {"b": [None]})

    assert payload == ('[1, "a"]', '{"b": [null]}', None, JSON, "utf-8")
    assert payload.size == len('[1, "a"]') + len('{"b": [null]}')
    assert carried(payload) == ([1, "a"], {"b": [None]})


@pytest.mark.parametrize("args", [(), [], None])
@pytest.mark.parametrize("kwargs", [{}, None])
def test_no_arguments_are_a_list_and_an_object(args: Any, kwargs: Any) -> None:
    payload = dump_arguments(args, kwargs)

    assert payload[:2] == ("[]", "{}")
    assert carried(payload) == ([], {})


@pytest.mark.parametrize(
    ("serializer", "content_type"),
    [
        ("pickle", PICKLE),
        ("yaml", "application/x-yaml"),
        ("msgpack", "application/x-msgpack"),
    ],
)
def test_other_serializers_write_a_body(serializer: str, content_type: str) -> None:
    payload = dump_arguments((1, "ä"), {"b": [None]}, serializer)

    assert payload.content_type == content_type
    assert payload[:2] == ("[]", "{}")
    assert payload.size == len(payload.body or b"")
    assert carried(payload, (content_type,)) == ([1, "ä"], {"b": [None]})


def test_an_unknown_serializer_is_told_as_such() -> None:
    with pytest.raises(SerializerNotInstalled, match="nope"):
        dump_arguments([], {}, "nope")


def test_what_pickle_cannot_write_is_refused() -> None:
    with pytest.raises(EncodeError):
        dump_arguments([lambda: 1], {}, "pickle")


def test_what_is_not_accepted_is_not_read() -> None:
    payload = dump_arguments([1], {}, "pickle")

    with pytest.raises(ContentDisallowed, match="accept_content"):
        carried(payload, (JSON,))
    with pytest.raises(ContentDisallowed):
        carried(dump_arguments([1], {}), (PICKLE,))


@pytest.mark.parametrize("compression", ["gzip", "zlib", "bzip2", "xz"])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_arguments_may_be_compressed(compression: str, serializer: str) -> None:
    payload = dump_arguments(["x" * 10_000], {"a": 1}, serializer, compression)

    assert payload.size < 1000
    assert payload[:2] == ("[]", "{}")
    assert carried(payload, (payload.content_type,)) == (["x" * 10_000], {"a": 1})


def test_an_unknown_compression_is_told_as_such() -> None:
    with pytest.raises(ImproperlyConfigured, match="nope"):
        dump_arguments([1], {}, "json", "nope")


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
def test_a_bomb_is_defused(compression: str) -> None:
    payload = dump_arguments(["x" * 5_000_000], {}, "json", compression)

    with pytest.raises(PayloadTooLarge, match="1,000,000 bytes"):
        carried(payload, most=1_000_000)
    assert carried(payload, most=6_000_000)[0] == ["x" * 5_000_000]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ('{"a": 1}', "{}"),
        ("[1]", "[]"),
        ("nope", "{}"),
        (None, "{}"),
        ("[1]", None),
        ("5", "{}"),
        ("null", "{}"),
        ('[{"__type__": "os.system", "__value__": "id"}]', "{}"),
    ],
)
def test_columns_that_hold_no_arguments_are_a_decode_error(args: Any, kwargs: Any) -> None:
    with pytest.raises(DecodeError):
        load_arguments(args, kwargs, None, JSON, "utf-8", (JSON,))


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (b"\x80\x04garbage", PICKLE, "binary"),
        (b"", PICKLE, "binary"),
        (None, PICKLE, "binary"),
        (b"[1]", JSON, "utf-8"),
        (b"\xff", JSON, "utf-8"),
        (b"not compressed", JSON, "application/x-gzip"),
        (zlib.compress(b"[[1], {}]")[:-6], JSON, "application/x-gzip"),
        (b"x", JSON, "application/x-no-such-thing"),
        (b"[[1], {}]", "", "utf-8"),
        (b"[[1], {}]", None, None),
        (b"x", "application/x-no-such-thing", "binary"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_decode_error(
    body: Any, content_type: Any, encoding: Any
) -> None:
    accept = (PICKLE, JSON, "application/x-no-such-thing")

    with pytest.raises(DecodeError):
        load_arguments("[]", "{}", body, content_type, encoding, accept)
