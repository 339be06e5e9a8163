"""Every control of an explorer through its range, as the page would ask; for tests and for kernels of notebooks."""

from typing import Any


def sweep(explorer: Any) -> set[str]:
    """Ask for both ends and the middle of every control, with every rule; returns the names of those that moved.

    Numbers are asked for at the value they have, as no range is theirs. The explorer is left as it was found.
    """
    line, swept = explorer.state.to_json(), set()
    asked = explorer._front.view["answered"]

    def ask(name: str, value: Any) -> None:
        nonlocal asked
        asked += 1
        explorer._front.request = {"n": asked, "changes": [[asked, name, value]]}

    for rule in next(control for control in explorer.controls if control.name == "rule").options:
        ask("rule", rule)
        for control in explorer.controls:
            options = list(control.options)
            if control.kind == "check":
                options = [] if control.disabled else [True, False]
            elif control.kind == "number":
                options = [] if control.value is None else [control.value]
            for value in [*options[:1], *options[len(options) // 2 :][:1], *options[-1:]]:
                swept.add(control.name)
                ask(control.name, value)
            if control.name in {now.name for now in explorer.controls}:
                ask(control.name, control.value)
    explorer.restore(line)
    return swept
