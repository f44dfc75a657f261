"""``python -m geneig_adjoint`` is the command ``geneig-adjoint``."""

import sys

from geneig_adjoint.cli import main

sys.exit(main())
