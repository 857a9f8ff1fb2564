"""What the scopes of a token let somebody read (WLCG Common JWT Profiles, 1.0, section "Capabilities")."""

from collections.abc import Iterable

READ = "storage.read"


def readable_paths(scopes: Iterable[str]) -> list[str]:
    """The folders; the whole storage where a scope names none."""
    pairs = (scope.partition(":") for scope in scopes)
    return [path or "/" for name, _, path in pairs if name == READ]


def holds(folder: str, path: str) -> bool:
    """Whether the path is that folder or below it; whole names count."""
    whole = folder.rstrip("/")
    return path == whole or path.startswith(f"{whole}/")
