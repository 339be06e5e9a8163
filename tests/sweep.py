"""Every control of an explorer through its range, as the page would ask; for tests and for kernels of notebooks."""

from typing import Any

from cltools.config import rule_class


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

    offered = next(control for control in explorer.controls if control.name == "rule").options
    rules = [name for name in offered if rule_class(name).__module__.startswith("cltools.")]  # not those of tests
    for rule in rules:
        ask("rule", rule)
        here = explorer.state.to_json()
        for control in explorer.controls:
            options = rules if control.name == "rule" else list(control.options)
            if control.kind == "check":
                options = [] if control.disabled else [True, False]
            elif control.kind == "number":
                value = control.value
                options = [] if value is None else [value, value + 1 if isinstance(value, int) else value / 2]
            for value in [*options[:1], *options[len(options) // 2 :][:1], *options[-1:]]:
                swept.add(control.name)
                ask(control.name, value)
            ask("state", here)  # not its value alone: "compare" off and on again has lost the other side
    explorer.restore(line)
    return swept
