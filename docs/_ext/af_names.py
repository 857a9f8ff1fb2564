"""The build warns when the page of environment variables and the code disagree about which there are.

A name counts as ours when it begins with ``AF_`` and stands in the code as a whole string (``"AF_X"``), as ``${AF_X}``, as ``$AF_X``, as
HTCondor's ``$(AF_X)`` or, in shell and make, as ``AF_X=``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = "reference/environment"
NAME = r"AF_[A-Z][A-Z0-9_]*"
USED = re.compile(rf"""["']({NAME})["']|\$[{{(]?({NAME})\b|\b({NAME})=""")


def names_in_code() -> Iterator[str]:
    """Our variables in the package, its configuration, its tests, Makefile and CI."""
    files = [
        *CHECKOUT.glob("af_hub/**/*.py"),
        *(path for path in CHECKOUT.glob("hub_config/**/*") if path.is_file() and path.suffix != ".md"),
        *CHECKOUT.glob("tests/**/*.py"),
        *(path for path in (CHECKOUT / "Makefile", CHECKOUT / ".ci" / "run") if path.exists()),
    ]
    for path in files:
        for found in USED.finditer(path.read_text(errors="replace")):
            yield next(name for name in found.groups() if name)


def check(app: Sphinx, failure: Exception | None) -> None:
    """Warn of each name that only one side has; at the end of every build, since the code may change while no page does."""
    if failure is not None:
        return
    told = set(re.findall(NAME, Path(app.env.doc2path(PAGE)).read_text()))
    used = set(names_in_code())
    for name in sorted(used - told):
        log.warning("%s is used by the code, but not told here", name, location=PAGE)
    for name in sorted(told - used):
        log.warning("%s is told here, but not used by the code", name, location=PAGE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
