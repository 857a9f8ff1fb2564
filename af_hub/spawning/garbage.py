"""What a hub has loaded is not looked through for garbage again and again.

With Kubernetes' client that is more than a hundred thousand objects. Each pod that changes brings new ones, so that Python soon looks through all,
which holds up everybody for a quarter of a second each time. Promises: afterwards it looks through what is new.
"""

import gc


def spare_what_is_loaded() -> None:
    """Keep all that there is now for as long as the process lives; for the moment in which a hub begins to serve."""
    gc.collect()
    gc.freeze()
