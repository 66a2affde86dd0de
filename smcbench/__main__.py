"""``python -m smcbench``."""

import sys

from smcbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
