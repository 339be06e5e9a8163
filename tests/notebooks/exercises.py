"""The exercises of a notebook, read from its text: a statement with its folds, and the answer cell that follows it."""

import html
import re
from dataclasses import dataclass
from typing import Any

HEAD = re.compile(r"^\*\*(\d) · (\w+) \(([^)]+)\)\.\*\*", flags=re.MULTILINE)
FOLD = re.compile(r"<details><summary>(Hint|Solution)</summary>(.*?)</details>", flags=re.DOTALL)
CODE = re.compile(r"<(pre|code)>(.*?)</\1>", flags=re.DOTALL)


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        number: 1, 2 or 3.
        grade: in a word.
        minutes: how long it takes, in words.
        hint: what its fold holds.
        solution: the first code in its fold, as Python; what else stands there is talk.
        answer: the source of the cell that follows, with a place for the answer and one check or more.
    """

    number: int
    grade: str
    minutes: str
    hint: str
    solution: str
    answer: str

    @property
    def checks(self) -> list[str]:
        """The names of the checks in the answer cell."""
        return re.findall(r"^check\.(\w+)\(", self.answer, flags=re.MULTILINE)

    @property
    def reads_explorer(self) -> bool:
        """Whether a check is given the explorer and the solution moves it."""
        return bool(re.search(r"^check\..*\bexplorer\b", self.answer, flags=re.MULTILINE)) and (
            "explorer.set(" in self.solution
        )

    @property
    def solved(self) -> str:
        """The answer cell with the solution put in above its checks, as a reader who opens the fold would."""
        before, first, after = self.answer.partition("check.")
        return f"{before}{self.solution}\n{first}{after}"


def exercises_of(notebook: Any) -> list[Exercise]:
    """All exercises, in order.

    Raises:
        ValueError: one lacks its hint, its solution or its answer cell; the message names it.
    """
    found = []
    for place, cell in enumerate(notebook.cells):
        heads = [*HEAD.finditer(cell.source)] if cell.cell_type == "markdown" else []
        if not heads:
            continue
        name = heads[0].group()
        text = cell.source[heads[0].end() :]
        folds = dict(FOLD.findall(text))
        following = notebook.cells[place + 1] if place + 1 < len(notebook.cells) else None
        code = CODE.search(folds.get("Solution", ""))
        if len(heads) > 1 or set(folds) != {"Hint", "Solution"} or code is None:
            raise ValueError(f"{name} wants a cell of its own, a hint, and a solution with code, each in its fold.")
        if following is None or following.cell_type != "code" or "check." not in following.source:
            raise ValueError(f"{name} has no answer cell with a check after it.")
        solution = html.unescape(code.group(2).replace("<code>", "").replace("</code>", "")).strip()
        number, grade, minutes = heads[0].groups()
        found.append(Exercise(int(number), grade, minutes, folds["Hint"], solution, following.source))
    return found
