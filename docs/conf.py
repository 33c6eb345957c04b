"""How Sphinx builds these pages: Markdown by MyST, furo's look, every reference checked."""

from __future__ import annotations

from cloister.release import VERSION

project = "cloister"
author = "The cloister authors"
copyright = "The cloister authors"
version = release = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"cloister {version}"
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autoclass_content = "both"

# In our docstrings a name in single backquotes is code; nothing is looked up for it.
default_role = "code"

# The pages build without a network: Python's own names are written as code, not as links.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
nitpick_ignore_regex = [
    # Python's names, and those of annotations that are only there for type checkers.
    (r"py:(class|exc|obj|data|func|meth|attr)", r"(?!cloister).*"),
    (r"py:(class|obj)", r"cloister\..*\.(_\w+|[A-Z])"),
]
