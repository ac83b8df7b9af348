"""`python -m cxrmodels.training.worker RUN` trains the run in the folder RUN; see `cxrmodels.lab.worker`."""

import sys

from cxrmodels.lab.worker import main

if __name__ == "__main__":
    sys.exit(main())
