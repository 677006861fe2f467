"""Where the tree, the tests and the package under test are, and how another process imports them;
stated once, so that test files can move."""

from pathlib import Path

import fastnn

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
PACKAGE = Path(fastnn.__file__).parent  # the fastnn under test: in the tree, or installed


def import_path(test_file):
    """The sys.path entries with which another process finds the fastnn under test, the helpers and
    the modules beside `test_file`."""
    return [str(PACKAGE.parent), str(TESTS / "helpers"), str(Path(test_file).parent)]
