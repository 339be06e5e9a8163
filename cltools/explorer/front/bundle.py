"""Joins the page's modules into one classic script, which also runs from a file and in a blob worker."""

import re
from pathlib import Path

FROM = re.compile(r'^(import|export) \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORTED = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
COMMENT = re.compile(
    r"^ *//[^\n]*\n|^ */\*\*(?:(?!\*/).)*\*/\n|/\*\*(?:(?!\*/).)*\*/ ?|(?<=[;,{}()\[]) //[^\n]*|^\n",
    re.MULTILINE | re.DOTALL,
)


def bundle(entry: Path, name: str) -> str:
    """Return a script that defines `name`, an object with all exports of the entry module.

    The modules are joined within one function, in the order of their imports and without `import`, `export` and
    comments.

    No two modules may define the same name, and every import and export must have one of the forms
    `import { a } from "./b.js";`, `export { a } from "./b.js";` and `export function a`, which a test checks.
    """
    bodies: dict[Path, str] = {}

    def visit(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        given, taken = EXPORTED.findall(text), FROM.findall(text)
        for form, names, source in taken:
            target = (path.parent / source).resolve()
            if target not in bodies:
                visit(target)
            if form == "export":
                given += [each.strip() for each in names.split(",") if each.strip()]
        bodies[path] = EXPORTED.sub("", FROM.sub("", COMMENT.sub("", text)))
        return given

    given = ", ".join(dict.fromkeys(visit(entry.resolve())))
    code = f'"use strict";\n{"".join(bodies.values())}return {{ {given} }};\n'
    return f"var {name} = (() => {{\n{code}}})();\n"
