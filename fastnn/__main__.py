"""``python -m fastnn`` is the command ``fastnn``."""

import sys

from fastnn.commands.cli import main

sys.exit(main())
