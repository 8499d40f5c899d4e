"""`python -m badrjax`."""

import sys

from badrjax.cli import main

sys.exit(main())
