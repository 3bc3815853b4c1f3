"""`python -m fgr`, the same as the command `fgr`."""

from fgr.cli import main

if __name__ == "__main__":
    main()
