"""Holds an image's labels to what is installed: ``python labels.py PYTHON=3.13 af_hub=0.1.0 ...`` fails the build where they differ.

Runs while an image is built, with the image's own Python. A name is ``PYTHON`` or a distribution.
"""

import sys
from importlib.metadata import PackageNotFoundError, version


def found(name: str) -> str:
    """The version of Python (major and minor), or of a distribution."""
    if name == "PYTHON":
        return "{}.{}".format(*sys.version_info)
    try:
        return version(name)
    except PackageNotFoundError:
        return "not there"


def lies(told: dict[str, str]) -> list[str]:
    """A sentence for each label that is wrong."""
    return [
        f"the label would say {name} {said or 'nothing'}, but in the image it is {found(name)}: give that as --build-arg"
        for name, said in told.items()
        if said != found(name)
    ]


if __name__ == "__main__":
    sys.exit("\n".join(lies(dict(argument.split("=", 1) for argument in sys.argv[1:]))) or None)
