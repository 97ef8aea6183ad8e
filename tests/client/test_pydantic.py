from __future__ import annotations

import importlib
from typing import Any

import pytest

from pgtasks import Celery
from pgtasks.exceptions import EncodeError, ImproperlyConfigured

pydantic = pytest.importorskip("pydantic")


class Order(pydantic.BaseModel):  # type: ignore[name-defined,misc]
    number: int


class Receipt(pydantic.BaseModel):  # type: ignore[name-defined,misc]
    text: str


class Special(Order):
    extra: int = 0


class Seen(pydantic.BaseModel):  # type: ignore[name-defined,misc]
    number: int

    @pydantic.model_validator(mode="after")
    def look(self, info: Any) -> Any:
        seen.append(dict(info.context))
        return self


seen: list[dict[str, Any]] = []


@pytest.fixture
def eager(app: Celery) -> Celery:
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    return app


def test_a_dict_becomes_the_model_that_is_annotated(eager: Celery) -> None:
    @eager.task(pydantic=True)
    def pay(order: Order, note: str, spare: Order | None = None) -> list[str]:
        return [type(order).__name__, note, type(spare).__name__]

    assert pay({"number": 1}, "x") == ["Order", "x", "NoneType"]  # type: ignore[arg-type]
    assert pay({"number": 1}, "x", {"number": 2}) == ["Order", "x", "Order"]  # type: ignore[arg-type]
    with pytest.raises(pydantic.ValidationError):
        pay({"number": "many"}, "x")  # type: ignore[arg-type]


def test_a_model_is_sent_as_a_dict_and_one_that_is_returned_is_too(eager: Celery) -> None:
    @eager.task(pydantic=True)
    def pay(order: Order) -> Receipt:
        return Receipt(text=str(order.number))

    assert pay.delay(Order(number=3)).get() == {"text": "3"}


def test_with_bind_the_task_is_not_among_the_arguments(eager: Celery) -> None:
    @eager.task(pydantic=True, bind=True)
    def pay(self: Any, order: Order) -> list[Any]:
        return [self.name, order.number]

    assert pay.delay(Order(number=3)).get() == [pay.name, 3]


def test_a_coroutine_function_gets_and_returns_models_too(eager: Celery) -> None:
    @eager.task(pydantic=True)
    async def pay(order: Order) -> Receipt:
        return Receipt(text=str(order.number))

    assert pay.delay(Order(number=3)).get() == {"text": "3"}


def test_a_coroutine_function_with_models_is_retried_as_well(eager: Celery) -> None:
    eager.conf.task_eager_propagates = False
    tries = []

    @eager.task(pydantic=True, autoretry_for=(OSError,), retry_kwargs={"countdown": 0})
    async def pay(order: Order) -> Receipt:
        tries.append(order.number)
        if len(tries) < 3:
            raise OSError("line busy")
        return Receipt(text="paid")

    assert pay.delay(Order(number=3)).get() == {"text": "paid"}
    assert tries == [3, 3, 3]


def test_a_model_that_would_lose_something_is_refused(eager: Celery) -> None:
    @eager.task(pydantic=True)
    def pay(order: Order) -> None: ...

    with pytest.raises(EncodeError):
        pay.delay(Special(number=1, extra=2))


def test_models_find_application_and_task_in_their_context(eager: Celery) -> None:
    seen.clear()

    @eager.task(pydantic=True, pydantic_context={"mine": 1})
    def look(thing: Seen) -> None: ...

    look({"number": 1})  # type: ignore[arg-type]

    assert seen[-1]["mine"] == 1
    assert seen[-1]["celery_task_name"] == look.name
    assert seen[-1]["celery_app"] == eager


def test_validation_may_be_strict(eager: Celery) -> None:
    @eager.task(pydantic=True, pydantic_strict=True)
    def strict(order: Order) -> None: ...

    @eager.task(pydantic=True)
    def lax(order: Order) -> None: ...

    lax({"number": "1"})  # type: ignore[arg-type]
    with pytest.raises(pydantic.ValidationError):
        strict({"number": "1"})  # type: ignore[arg-type]


def test_arguments_without_models_are_left_alone(eager: Celery) -> None:
    @eager.task(pydantic=True)
    def plain(*numbers: int, **named: Any) -> None: ...

    args, kwargs = (1, 2), {"a": 3}

    dumped = plain._dump_pydantic_arguments(args, kwargs)
    assert dumped[0] is args
    assert dumped[1] is kwargs


def test_without_pydantic_it_is_told_what_to_install(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(pydantic=True)
    def pay(order: Any) -> None: ...

    original = importlib.import_module

    def missing(name: str, *args: Any) -> Any:
        if name == "pydantic":
            raise ModuleNotFoundError(name)
        return original(name, *args)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImproperlyConfigured, match="install pydantic"):
        pay(1)
