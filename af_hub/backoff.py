"""How long to leave somebody alone who has failed: doubling, up to a limit. Whoever needs chance in it adds that."""


def backoff(failures: int, least: float, most: float) -> float:
    """Seconds after so many failures in a row: ``least`` after the first (and before any), twice as long after each further one."""
    return min(most, least * 2.0 ** min(max(0, failures - 1), 32))
