"""Links between the pages lead somewhere, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "compat").rglob("*.md")),
    *sorted((ROOT / "migrations").rglob("*.md")),
]
# `make bench` writes it.
GENERATED = {ROOT / "docs" / "reference" / "benchmarks.md"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[str]:
    text = re.sub(
        r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [each for each in found if not re.match(r"https?:|mailto:", each)]


def anchors(page: Path) -> set[str]:
    """The headings as GitHub makes addresses of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {
        re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in plain
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        if target in GENERATED:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_no_link_leaves_the_repository() -> None:
    outside = [
        (name(page), link)
        for page in PAGES
        for link in links(page)
        if not (page.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT)
    ]

    assert outside == []


def test_every_page_can_be_reached_from_the_front_page() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        waiting += [
            (page.parent / link.partition("#")[0]).resolve() for link in links(page)
        ]

    assert {name(page) for page in (ROOT / "docs").rglob("*.md")} <= set(map(name, reached))
