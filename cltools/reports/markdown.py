"""Data frames of texts as tables in Markdown."""

from collections.abc import Collection, Iterable

from pandas import DataFrame

from cltools.errors import printable


def markdown(caption: str, cells: DataFrame, left: Collection[str]) -> str:
    """A caption, and a table below it.

    Args:
        caption: what the table shows.
        cells: of text; the index is not shown.
        left: columns of words, set to the left; figures stand to the right.
    """
    rule = "|".join("---" if column in left else "---:" for column in cells.columns)
    rows = [_line(row) for row in cells.itertuples(index=False, name=None)]
    return "\n".join([caption, "", _line(cells.columns), f"|{rule}|", *rows])


def _line(cells: Iterable[str]) -> str:
    texts = (printable(cell, lines=False).replace("|", "∣").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(texts)} |"
