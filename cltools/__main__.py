"""`python -m cltools`. The doctor runs even if the libraries of the other commands cannot be loaded."""

import os
import sys
from io import TextIOWrapper

from cltools.errors import printable


def start() -> None:
    """Run the command line, or report the libraries that it lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if isinstance(stream, TextIOWrapper):  # its encoding may lack characters such as "→"
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.path.insert(0, os.getcwd())  # for the user's modules, also with the console script
    except OSError:  # otherwise a library would fail with an unrelated message
        print("cltools: the working folder no longer exists; change into another one.", file=sys.stderr)
        raise SystemExit(2) from None
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars would fill a log file
    try:
        if sys.argv[1:] == ["doctor"]:
            from cltools.doctor import report

            raise SystemExit(report())
        from cltools.cli import main

        main()
    except ImportError as error:
        if (error.name or "cltools").split(".")[0] == "cltools":
            raise
        message = f"{error}. The extra [train] installs what the command line needs"
        print(f"cltools: {printable(message)}; cltools doctor shows what is installed.", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    start()
