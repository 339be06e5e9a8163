"""Joins the page's modules into one classic script, which also runs from a file and in a blob worker."""

import re
from pathlib import Path

FROM = re.compile(r'^(import|export) \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
EXPORTED = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) (\w+))", re.MULTILINE)
DEFINED = re.compile(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", re.MULTILINE)
COMMENT = re.compile(
    r"^ *//[^\n]*\n|^ */\*\*(?:(?!\*/).)*\*/\n|/\*\*(?:(?!\*/).)*\*/ ?|(?<=[;,{}()\[]) //[^\n]*|^\n",
    re.MULTILINE | re.DOTALL,
)
LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def bundle(entry: Path, name: str) -> str:
    """Return a script that defines `name`, an object with all exports of the entry module.

    The modules are joined within one function, in the order of their imports and without `import`, `export` and
    comments.

    Raises:
        ValueError: two modules define the same name, or an import or export does not have one of the forms
            `import { a } from "./b.js";`, `export { a } from "./b.js";` and `export function a`.
    """
    bodies: dict[Path, str] = {}
    owner: dict[str, str] = {}

    def visit(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        given, taken = EXPORTED.findall(text), FROM.findall(text)
        for form, names, source in taken:
            target = (path.parent / source).resolve()
            if target not in bodies:
                visit(target)
            if form == "export":
                given += [each.strip() for each in names.split(",") if each.strip()]
        body = EXPORTED.sub("", FROM.sub("", COMMENT.sub("", text)))
        if left := LEFT.search(body) or re.search(r"\w+ as \w+", " ".join(names for _, names, _ in taken)):
            raise ValueError(f"{path.name}: {left[0]!r} is a form of import or export that is not supported.")
        for defined in DEFINED.findall(body):
            if owner.setdefault(defined, path.name) != path.name:
                raise ValueError(f"{path.name} and {owner[defined]} both define {defined}; rename one.")
        bodies[path] = body
        return given

    given = ", ".join(dict.fromkeys(visit(entry.resolve())))
    code = f'"use strict";\n{"".join(bodies.values())}return {{ {given} }};\n'
    return f"var {name} = (() => {{\n{code}}})();\n"
