"""The reference of the package, made by autodoc from docstrings."""

import re
from typing import Any

RANGE = re.compile(r"Annotated\[((?:[^\[\],]|\[[^\]]*\])+)(?:, ['\"][^'\"]*['\"])+\]")
"""A type with the words that say which values are permitted."""


def register(app: Any) -> None:
    """Connect to autodoc."""
    app.connect("autodoc-process-signature", _shortened)
    app.connect("autodoc-skip-member", _skipped)


def _shortened(app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, returned: Any) -> Any:
    """Leave out of a signature which values are permitted; the fields below it say so."""
    return signature and RANGE.sub(r"\1", signature).replace("<factory>", "…"), returned


def _skipped(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out constants of classes, which are for the package itself."""
    return True if name.isupper() and what == "class" and not isinstance(value, int) else None
