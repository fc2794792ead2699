"""``python -m pytest_cnnaudit`` is the command ``cnnaudit``."""

import sys

from pytest_cnnaudit.cli import main

sys.exit(main())
