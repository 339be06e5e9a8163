"""What Sphinx needs to make the site: executed notebooks as pages, live explorers, formulas as MathML."""

from typing import Any

from pages import formulas, output, reference, tables


def setup(app: Any) -> dict[str, Any]:
    """Register everything with Sphinx, which calls this for an extension."""
    formulas.register(app)
    output.register(app)
    reference.register(app)
    tables.register(app)
    return {"parallel_read_safe": True}
