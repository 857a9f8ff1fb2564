"""Read last by ``jupyterhub_config.py`` in a pod: traits from the chart's values, then the admin's own lines."""

import json
from pathlib import Path

c = get_config()  # noqa: F821

here = Path(__file__).parent
for name, traits in json.loads((here / "traits.json").read_text()).items():
    c[name].update(traits)
load_subconfig(str(here / "extra_config.py"))  # noqa: F821
