"""What the pages point to exists: files, headings of files, and tests that they name."""

import re
from collections import Counter
from pathlib import Path

import pytest
from test_project import PAGES, ROOT, markdown

TREES = ("cltools", "tests", "notebooks", "data", r"\.ci")
MADE = ("data/decoded", "data/cifar10", "data/cifar100", "data/tiny-imagenet-200")
"""Come into being only when they are needed."""
YOURS = {"my_parts.py", "my_rules.py", "train.py"}
"""Files that a reader is told to write."""
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"")
PATH = re.compile(rf"(?<![\w./$-])(?:{'|'.join(TREES)})/[\w./*-]*")
NAME = re.compile(r"`([\w.-]+\.(?:md|toml|yml|cff|ipynb|py)|Makefile|constraints\.txt)(?:::(\w+))?`")
FENCE = re.compile(r"```.*?```", flags=re.DOTALL)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as a repository's page makes them: equal ones are numbered."""
    found: list[str] = []
    met: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", markdown(page)), flags=re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.append(f"{slug}-{met[slug]}" if met[slug] else slug)
        met[slug] += 1
    return set(found)


def dead_links(prose: str, page: Path) -> list[str]:
    """Links within the project whose file, or whose heading in that file, is not there."""
    dead = []
    for target in (first or second for first, second in LINK.findall(FENCE.sub("", prose))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in slugs(file)):
            dead.append(target)
    return dead


def dead_paths(prose: str) -> list[str]:
    """Paths from the project's folder, in prose or in code, that lead nowhere; of a pattern, that match nothing."""
    named = {path.rstrip(".") for path in PATH.findall(prose)}
    return sorted(path for path in named if not path.startswith(MADE) and not any(ROOT.glob(path.rstrip("/"))))


def dead_names(prose: str, page: Path) -> list[str]:
    """Files called by their name alone, and tests called `file::name`, that are not there."""
    dead = []
    for name, test in NAME.findall(prose):
        if name in YOURS:
            continue
        places = (ROOT, page.parent, ROOT / "tests", ROOT / "notebooks")
        files = [place / name for place in places if (place / name).exists()]
        known = [
            file
            for file in files
            if not test or re.search(rf"^\s*def {test}\(", file.read_text(encoding="utf-8"), re.MULTILINE)
        ]
        if not known:
            dead.append(f"{name}::{test}" if test else name)
    return dead


def test_every_link_path_and_name_on_a_page_is_of_something() -> None:
    dead = {}
    for path in (page for page in PAGES if page.name != "readings.md"):  # which quotes sentences that are gone
        prose = markdown(path)
        dead[str(path.relative_to(ROOT))] = dead_links(prose, path) + dead_paths(prose) + dead_names(prose, path)
    changes = ROOT / "CHANGELOG.md"  # names what is gone, but links to what is there
    dead[changes.name] = dead_links(markdown(changes), changes)
    assert {name: found for name, found in dead.items() if found} == {}


@pytest.mark.parametrize(
    "prose",
    [
        "[x](NONE.md)",
        "[x](README.md#no-such-heading)",
        "[x](#no-such-heading)",
        '<img src="none.png">',
        "![x](a/b.png)",
    ],
)
def test_a_dead_link_is_seen(prose: str) -> None:
    assert len(dead_links(prose, ROOT / "README.md")) == 1


@pytest.mark.parametrize(
    "prose",
    [
        "[x](LICENSE)",
        "[x](README.md#in-your-own-code)",
        "[x](#start)",
        "[x](https://example.org/none)",
        "```\n[x](no)\n```",
    ],
)
def test_a_live_link_is_let_pass(prose: str) -> None:
    assert dead_links(prose, ROOT / "README.md") == []


def test_dead_paths_and_names_are_seen_and_living_ones_are_not() -> None:
    assert dead_paths(
        "`data/none.json`, cltools/cli.py, data/results/*.json, tests/none/*, a/data/x, data/decoded."
    ) == ["data/none.json", "tests/none/*"]
    here = "`README.md`, `test_links.py::test_a_dead_link_is_seen`, `none.md`, `test_links.py::test_none`"
    assert dead_names(here, ROOT / "README.md") == ["none.md", "test_links.py::test_none"]


def test_headings_become_anchors(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `code`, and: more\n\n## Two\n\n```\n# no heading\n```\n\n## Two\n\n## Two\n\n## [Link](x) “here”?\n",
        encoding="utf-8",
    )
    assert slugs(page) == {"a-code-and-more", "two", "two-1", "two-2", "link-here"}
