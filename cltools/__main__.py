"""`python -m cltools`; its doctor starts also where the libraries of the other commands do not."""

import os
import sys
from io import TextIOWrapper

from cltools.errors import printable


def start() -> None:
    """Run the command line, or say what it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # which may have the encoding of an old terminal, and no letter for "→"
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.path.insert(0, os.getcwd())  # where modules of the reader's own lie, also for the console script
    except OSError:  # libraries end the process with a message about something else
        print("cltools: the working folder is gone; change into one that is there.", file=sys.stderr)
        raise SystemExit(2) from None
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a bar fills a log file
    try:
        if sys.argv[1:] == ["doctor"]:
            from cltools.doctor import report

            raise SystemExit(report())
        from cltools.cli import main

        main()
    except ImportError as error:
        if (error.name or "cltools").split(".")[0] == "cltools":
            raise
        told = f"{error}. The extra [train] brings what the command line needs"
        print(f"cltools: {printable(told)}; cltools doctor says what is there.", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    start()
