"""python -m mos: the same as the mos command."""

import sys

from mos.cli import main

if __name__ == "__main__":
    sys.exit(main())
