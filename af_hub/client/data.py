"""The datasets that the facility offers, by name, as ``root://`` addresses.

Serves the hop "data" in a session. The session's environment says what there is (:func:`af_hub.session.xrootd.datasets_fragment`).
"""

import json
import os
from collections.abc import Mapping

from af_hub.errors import Refused, Unavailable


def read_datasets(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """What ``AF_DATASETS`` says: a JSON object of lists."""
    try:
        datasets: dict[str, list[str]] = json.loads(environ.get("AF_DATASETS") or "{}")
    except ValueError as error:
        raise Unavailable("the session's AF_DATASETS is not JSON; the facility's administrator sets it") from error
    return datasets


def dataset(name: str) -> list[str]:
    """The files of a dataset.

    Raises
    ------
    Refused
        When the facility offers no dataset of that name; the message says which there are.
    """
    datasets = read_datasets(os.environ)
    if name not in datasets:
        raise Refused(f"this facility offers no dataset {name!r}; it has {', '.join(datasets) or 'none'}")
    return datasets[name]
