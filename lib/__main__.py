"""`python -m lib ...`, which is what `./repro ...` runs."""

import sys

from lib.engine.cli.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
