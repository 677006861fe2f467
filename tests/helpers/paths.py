"""Where things are, said once, so that test files may move: the tree, the tests, the package under
test, and what another process needs to import all three."""

from pathlib import Path

import fastnn

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent  # of the tree
PACKAGE = Path(fastnn.__file__).parent  # the fastnn under test: the tree's, or an installed one


def import_path(test_file):
    """What another process puts on its sys.path to find the fastnn under test, the helpers and the
    modules beside `test_file`."""
    return [str(PACKAGE.parent), str(TESTS / "helpers"), str(Path(test_file).parent)]
