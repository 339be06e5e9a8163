"""Every control of an explorer through its range, as the page would ask; for tests and for kernels of notebooks."""

from typing import Any

from cltools.mining import NegativeRule, PositiveRule
from cltools.mining.rules import rule_classes

CHOOSING = ("rule", "positive_rule")


def sweep(explorer: Any) -> set[str]:
    """Ask for both ends and the middle of every control, with every rule; returns the names of those that moved.

    Numbers have no range: they are asked for at the value they have and at half of it or one more; those that are None
    stay so. The explorer is left as it was found.
    """
    line, swept = explorer.state.to_json(), set()
    asked = explorer._front.view["answered"]

    def ask(name: str, value: Any) -> None:
        nonlocal asked
        asked += 1
        explorer._front.request = {"n": asked, "changes": [[asked, name, value]]}

    known = rule_classes(NegativeRule) | rule_classes(PositiveRule)
    offered = {control.name: control.options for control in explorer.controls if control.name in CHOOSING}
    rules = {
        choosing: [name for name in names if known[name].__module__.startswith("cltools.")]  # not those of tests
        for choosing, names in offered.items()
    }
    for choosing, rule in [(choosing, rule) for choosing, names in rules.items() for rule in names]:
        ask(choosing, rule)
        here = explorer.state.to_json()
        for control in explorer.controls:
            options = rules.get(control.name, list(control.options))
            if control.kind == "check":
                options = [] if control.disabled else [True, False]
            elif control.kind == "number":
                value = control.value
                if isinstance(value, str):  # a word in place of a number, as "mean"
                    options = [value, 0.1]
                else:
                    options = [] if value is None else [value, value + 1 if isinstance(value, int) else value / 2]
            for value in [*options[:1], *options[len(options) // 2 :][:1], *options[-1:]]:
                swept.add(control.name)
                ask(control.name, value)
            ask("state", here)  # not its value alone: "compare" off and on again has lost the other side
    explorer.restore(line)
    return swept
