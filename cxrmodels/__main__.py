"""`python -m cxrmodels`."""

import sys

from cxrmodels.cli import main

if __name__ == "__main__":
    sys.exit(main())
