"""`make book`, or with docs/ on the path `python -m book [FOLDER]`."""

import sys
from collections.abc import Sequence

from cltools.doctor import install_cltools


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the book; an error a person can cause ends in one message and status 2."""
    try:
        import tyro

        from book.building import make_book

        print(tyro.cli(make_book, args=arguments, prog="python -m book"))
    except ModuleNotFoundError as error:
        print(f"book: {error.name} is not installed here. Install it with: {install_cltools('docs')}", file=sys.stderr)
        raise SystemExit(2) from None
    except (ValueError, OSError) as error:
        print(f"book: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
