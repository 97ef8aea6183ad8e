"""What a row carries of its work-flow: bodies by name, and a chain as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pgtasks import Celery, chain
from pgtasks.app import embed
from pgtasks.app.embed import Links

STEP = {"task": "t", "args": [], "kwargs": {}, "options": {"task_id": "1"}}


def step(**changes: Any) -> dict[str, Any]:
    return {**STEP, **changes}


def test_a_chain_is_json_for_everybody_who_reads_it() -> None:
    text = embed.write({"callbacks": [step()]}, [step(task="b"), step(task="a")])

    assert json.loads(text) == {
        "callbacks": [step()],
        "chain": [step(task="b"), step(task="a")],
    }


@pytest.mark.parametrize("found", [{}, {"errbacks": [step()]}])
def test_it_comes_back_link_by_link(found: dict[str, Any]) -> None:
    read = embed.read(embed.write(found, [step(task=name) for name in "cba"]))
    links = read.pop("chain")
    order = []
    while links:
        following, links = links.next()
        order.append(following["task"])

    assert (order, read) == (["a", "b", "c"], found)


def test_what_is_left_is_written_again_as_it_was() -> None:
    links = Links.of([step(task="b"), step(task="a")])
    _, left = links.next()

    assert embed.write({}, left) == embed.write({}, [step(task="b")])


@pytest.mark.parametrize(
    "text", ["\n", '"chain": [\n', ",\n", "\n]}", '\\",\n', "\u2028 und ä", "\x00"]
)
def test_no_argument_can_be_taken_for_a_break_between_links(text: str) -> None:
    links = [step(args=[text], kwargs={"chain": [text]}), step(task="a", args=[text])]
    read = embed.read(embed.write({"callbacks": [step(args=[text])]}, links))

    assert read["chain"].read() == links
    assert len(read["chain"]) == 2
    assert read["callbacks"] == [step(args=[text])]


def test_a_chain_that_somebody_else_has_written_is_read_too() -> None:
    text = json.dumps({"chain": [step()]}, indent=2)

    assert embed.read(text) == {"chain": [step()]}


def test_the_last_link_is_looked_at_without_reading_the_others() -> None:
    links = Links(f"{json.dumps(step(task='last'))},\nnot json,\nnor this")

    assert links[0]["task"] == "last"


def test_a_task_sees_a_list_and_may_change_it(
    postgres_app: Celery, desk: Callable[..., Any]
) -> None:
    seen = []

    @postgres_app.task(bind=True)
    def shorten(self: Any) -> int:
        seen.append(
            ([each["task"] for each in self.request.chain], type(self.request.chain))
        )
        self.request.chain = self.request.chain[-1:]
        return 1

    @postgres_app.task
    def add(x: int, y: int) -> int:
        return x + y

    chain(shorten.s(), add.s(10), add.s(100), app=postgres_app).apply_async()
    outcomes = desk(postgres_app).work_off()

    assert seen == [([add.name, add.name], list)]
    assert [each.result for each in outcomes] == ["1", "11"]
