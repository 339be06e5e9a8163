"""Formulas as MathML: in text and in HTML, never in code, and mistakes are named."""

import pytest

from cltools.errors import CltoolsError
from pages.formulas import mathml, with_formulas


def test_a_formula_becomes_mathml() -> None:
    made = mathml(r"\frac{z\cdot z'}{\tau}", "block")
    assert made.startswith("<math") and 'display="block"' in made and "<mfrac>" in made and "\\" not in made
    assert "&#x02032;</mo>" in made, "the prime is as large as in a text"


@pytest.mark.parametrize("wrong", [r"\nosuchcommand{x}", r"\frac"])
def test_a_formula_that_cannot_be_converted_is_named(wrong: str) -> None:
    with pytest.raises(CltoolsError, match="could not be converted"):
        mathml(wrong, "inline")


def test_formulas_in_html_are_converted_and_code_is_not() -> None:
    made = with_formulas(
        "<details><summary>Why $a &lt; b$?</summary><code>x = $HOME$</code> $$c$$ for $5 or $6</details>"
    )
    assert made.count("<math") == 2 and "<code>x = $HOME$</code>" in made and "for $5 or $6" in made
    assert 'display="block"' in made and "&#x0003C;" in made
