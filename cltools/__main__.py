"""`python -m cltools`."""

from cltools.cli import main

if __name__ == "__main__":
    main()
