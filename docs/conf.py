"""How Sphinx builds these pages: ``make docs``. Nothing is fetched while it runs."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "AF Hub"
copyright = "2026, the AF Hub contributors"
author = "the AF Hub contributors"
release = version_of("af_hub")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "af_reference",
    "af_names",
    "af_drawing",
    "af_chart",
]
exclude_patterns = ["_build", "_figures", "examples"]
root_doc = "index"
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
# As written: a default such as os.environ would otherwise put the builder's environment into the page.
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False

copybutton_prompt_text = "$ "

html_theme = "pydata_sphinx_theme"
html_title = "AF Hub"
html_static_path = ["_static"]
html_css_files = ["af-hub.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "glossary": []}
