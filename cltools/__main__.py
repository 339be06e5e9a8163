"""`python -m cltools`."""

import sys

try:
    from cltools.cli import main
except ModuleNotFoundError as error:
    if (error.name or "cltools").split(".")[0] == "cltools":
        raise
    print(f'cltools: {error.name} is not installed. Install it with: pip install "cltools[train]"', file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    main()
