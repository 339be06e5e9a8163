"""What a distribution requires, and whether a version fits.

Only as much of it as our own requirements use, because `packaging` is not installed with the package: versions are
compared by the numbers they start with, so a pre-release counts as its release ("2.6.0rc1" as 2.6.0), and the label of
a build ("+cpu") as nothing.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*([<>=!~0-9A-Za-z.,+*\s-]*)(?:;(.*))?")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True)
class Requirement:
    """A required distribution: its name, the versions that fit (">=6.1,<8"), and the extra that asks ("": always)."""

    name: str
    versions: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.versions}"


def parse(line: str) -> Requirement:
    """A line of a distribution's metadata, such as `plotly<8,>=6.1; extra == 'notebooks'`.

    Raises:
        ValueError: the line has a form that none of our requirements has.
    """
    match = REQUIREMENT.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"The requirement {line!r} is not one the doctor can read.")
    name, versions, marker = match.groups()
    extra = EXTRA.search(marker or "")
    return Requirement(name, versions.replace(" ", ""), extra.group(1) if extra else "")


def fits(version: str, versions: str) -> bool:
    """Whether a version is among those asked for, such as ">=6.1,<8"; "" asks for any.

    Raises:
        ValueError: the version starts with no number, or a comparison is none of the usual six.
    """
    found = numbers(version)
    for clause in filter(None, versions.split(",")):
        match = re.fullmatch(r"\s*(>=|<=|==|!=|>|<)\s*([0-9][0-9A-Za-z.+!-]*)\s*", clause)
        if match is None:
            raise ValueError(f"The comparison {clause!r} is not one the doctor can read.")
        asked = numbers(match.group(2))
        length = max(len(found), len(asked))  # 2.6 and 2.6.0 are one version
        if not COMPARE[match.group(1)](_padded(found, length), _padded(asked, length)):
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """The numbers a version starts with: "2.6.0+cpu" is (2, 6, 0).

    Raises:
        ValueError: it starts with none.
    """
    match = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    if match is None:
        raise ValueError(f"The version {version!r} starts with no number.")
    return tuple(map(int, match.group(1).split(".")))


def _padded(version: tuple[int, ...], length: int) -> tuple[int, ...]:
    return version + (0,) * (length - len(version))
