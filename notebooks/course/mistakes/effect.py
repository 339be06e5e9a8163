"""The effect of a mistake: the same measurements the wrong way and the right way, and the guard that prevents it."""

import html
from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Effect:
    """An effect, shown as a table of two columns, the sentence and the guard.

    Attributes:
        wrong: the measurements of the wrong way, by name and unit.
        right: the same, measured the package's way.
        sentence: what the numbers mean.
        guard: the function of the package that prevents the mistake, as a dotted name.
        test: the test of the guard, `file::name` under `tests/`.
    """

    wrong: dict[str, float]
    right: dict[str, float]
    sentence: str
    guard: str
    test: str

    def __repr__(self) -> str:
        rows = [f"{name}: {wrong} wrong, {right} right" for name, wrong, right in self._rows()]
        return "\n".join([*rows, self.sentence, f"Guard: {self.guard}, tested by {self.test}."])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(n)}</td><td>{w}</td><td>{r}</td></tr>" for n, w, r in self._rows())
        head = "<tr><th></th><th>the wrong way</th><th>the package's way</th></tr>"
        guard = f"Guard: <code>{html.escape(self.guard)}</code>, tested by <code>tests/{html.escape(self.test)}</code>."
        return f"<table>{head}{rows}</table><p>{html.escape(self.sentence)}</p><p>{guard}</p>"

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(name, f"{wrong:.3g}", f"{self.right[name]:.3g}") for name, wrong in self.wrong.items()]
