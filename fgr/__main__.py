"""`python -m fgr`."""

from fgr.cli import main

if __name__ == "__main__":
    main()
