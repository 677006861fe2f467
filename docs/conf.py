"""The site: `sphinx-build -W --keep-going -j 2 -d build/doctrees docs build/site`."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "tools"))

import mpi4py

import fastnn

mpi4py.rc.initialize = False  # the reference of fastnn.mpi imports it, and starts nothing

project = "fastnn"
author = copyright = "the fastnn developers"
version = release = fastnn.__version__

extensions = [
    *("myst_parser", "sphinx.ext.autodoc"),
    *("docstrings", "mathematics", "site_pages"),
]
exclude_patterns = ["package.md", "tools"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4

smartquotes = False  # most quotes are of code
default_role = "name"  # a single backtick in a docstring
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
nitpicky = True
nitpick_ignore_regex = [  # types of other libraries, and those of ours that are not public
    ("py:.*", r"(?!fastnn\.).*"),
    ("py:class", r"fastnn(\.\w+)*\.(Activation|Network|Handover|RowPredictor|Samples|Tabular)"),
]

html_title = "fastnn"
html_theme = "furo"
# Without a font for mathematics a browser puts hats on letters and indices at their feet badly, so
# the site brings STIX Two Math (SIL Open Font License), which ziamath has.
font = Path(find_spec("ziamath").origin).parent / "fonts/STIXTwoMath-Regular.ttf"
html_static_path = ["_static", str(font)]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_js_files = ["search.js"]
html_math_renderer = "mathml"
html_copy_source = False
html_theme_options = {"footer_icons": []}
