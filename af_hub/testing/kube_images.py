"""Container images for a test's cluster: this project's and a few small ones, built by buildah in the user's cache.

``python -m af_hub.testing.kube_images`` makes most of them beforehand, and the cluster's programs. Promises: an image is built again only
when something that goes into it has changed; mounts of a build end with it, also of one that is killed; nothing is taken from another
registry, since the base is made by mmdebstrap from Debian's packages. Leaves what an image holds to ``images/NAME/Containerfile``.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.testing.debian import Progress, cache_folder, find_archive, locked, run
from af_hub.testing.kube_build import COREDNS_PROGRAM, PAUSE_PROGRAM, PROGRAMS, GoProgram, build, say
from af_hub.testing.kube_machine import INSIDE, OUTSIDE, why_not
from af_hub.testing.places import CHECKOUT, IN_CHECKOUT

HOST = "af-hub.test"
PAUSE, DNS, DEBIAN = "pause", "coredns", "debian"
# Built when a test asks for it.
RARE = {"python-root"}
# All images together have about ten; what earlier ones left is more.
MOST_BYTES = 20_000_000_000
BUILD_SECONDS = 3600
PUSH_SECONDS = 600
# What goes into the package; the images' own files are hashed with them.
SOURCES = ("af_hub", "hub_config", "pyproject.toml", "README.md", "LICENSE")
# Releases of Debian that the project supports, and their Python.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
# Mounts of a build are its own, so that they end with it.
OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private", "--")
SMALL = 'FROM scratch\nCOPY {0} /{0}\nUSER 65532:65532\nENTRYPOINT ["/{0}"]\n'


@dataclass(frozen=True)
class Image:
    """A built image: its name, and its id in buildah's storage."""

    name: str
    id: str

    @property
    def reference(self) -> str:
        """What pods call it."""
        return reference(self.name)


def reference(name: str) -> str:
    """What pods call the image of this name: ``af-hub.test/agent:1``."""
    return f"{HOST}/{name}" if ":" in name else f"{HOST}/{name}:1"


def folder() -> Path:
    """Where buildah's storage and our notes are."""
    return cache_folder() / "kube" / "images"


def buildah(*arguments: str, timeout: float = BUILD_SECONDS, outside: bool = True) -> str:
    """What a buildah command says; ``outside`` with the network outside of the machine, when we are in one.

    Raises
    ------
    Unavailable
        When it fails, with the end of what it said.
    """
    for program in ("buildah", "unshare"):
        if not shutil.which(program):
            raise Unavailable(f"there is no program {program}; Debian's packages buildah and util-linux bring them")
    lent = OUTSIDE if outside and INSIDE in os.environ else ()
    with tempfile.TemporaryDirectory(prefix="af-buildah-") as runs:
        own = ["--root", str(folder() / "storage"), "--runroot", runs, "--storage-driver", "overlay"]
        try:
            return run([*lent, *OWN_MOUNTS, "buildah", *own, *arguments], timeout)
        finally:
            shutil.rmtree(runs, ignore_errors=True)


def is_there(image: str) -> bool:
    """Whether buildah has an image of this name or id."""
    return bool(run_or_nothing("inspect", "--type", "image", "--format", "{{.FromImageID}}", image))


def run_or_nothing(*arguments: str) -> str:
    """What buildah says, or nothing where it fails."""
    try:
        return buildah(*arguments, timeout=60).strip()
    except Unavailable:
        return ""


# --- what an image is made of


def suite() -> str:
    """This machine's release of Debian, so that Python in the images is the machine's; another machine gets the newest that we support."""
    found = platform.freedesktop_os_release()
    name = found.get("VERSION_CODENAME", "")
    return name if found.get("ID") == "debian" and name in PYTHONS else list(PYTHONS)[-1]


def digest(paths: Iterable[Path], *more: str) -> str:
    """A name for the content of files and folders and some words."""
    total = hashlib.sha256(json.dumps(more).encode())
    for path in sorted(file for one in paths for file in (one.rglob("*") if one.is_dir() else [one])):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(f"{path.relative_to(CHECKOUT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def names() -> list[str]:
    """The project's images."""
    return sorted(path.parent.name for path in (CHECKOUT / "images").glob("*/Containerfile"))


def declared(containerfile: str) -> set[str]:
    """The arguments that a Containerfile asks for."""
    return set(re.findall(r"(?m)^ARG\s+(\w+)", containerfile))


def locked_version(lock: str, distribution: str) -> str:
    """The version that a lock file has of a distribution; empty when it has none."""
    found = re.findall(rf"(?m)^{distribution}==(\S+)", lock)
    return found[0] if found else ""


def build_arguments(name: str, base: str, wheel: str) -> dict[str, str]:
    """A value for each argument of the Containerfile that is not the same everywhere."""
    home = CHECKOUT / "images" / name
    lock = (home / "requirements.lock").read_text() if (home / "requirements.lock").exists() else ""
    known = {
        "BASE": base,
        "WHEEL": wheel,
        "PYTHON": PYTHONS[suite()],
        "JUPYTERHUB": locked_version(lock, "jupyterhub"),
        "DASK": locked_version(lock, "dask"),
    }
    wanted = declared((home / "Containerfile").read_text())
    return {key: value for key, value in known.items() if value and key in wanted}


def network_options(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Let apt and pip in a build reach what they reach on this machine: its proxies, index and certificates."""
    options = [f"--build-arg={name}" for name in ("http_proxy", "https_proxy", "no_proxy") if name in environ]
    for secret, path in (
        ("ca-bundle", environ.get("SSL_CERT_FILE", "")),
        ("pip.conf", environ.get("PIP_CONFIG_FILE", "")),
    ):
        if path and Path(path).is_file():
            options += ["--secret", f"id={secret},src={path}"]
    return options


# --- builds


def once(name: str, key: str, make: Callable[[], str], progress: Progress) -> Image:
    """The image of this name and key: the one that we noted, if buildah still has it, else a new one; ``make`` gives its id."""
    note = folder() / f"{name}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    with locked(note.with_suffix(".lock"), progress):
        noted = json.loads(note.read_text()) if note.exists() else {}
        if noted.get("key") == key and is_there(noted["id"]):
            return Image(name, noted["id"])
        progress(f"building the image {name}")
        image = Image(name, make())
        note.write_text(json.dumps({"key": key, "id": image.id}))
        progress(f"the image {name} is there")
        return image


def build_containerfile(context: Path, containerfile: Path, tag: str, *options: str) -> str:
    """Build; the image's id."""
    with tempfile.NamedTemporaryFile(prefix="af-image-") as noted:
        where = ["--file", str(containerfile), "--iidfile", noted.name, "--tag", tag]
        buildah("build", "--isolation", "chroot", "--layers", *options, *where, str(context))
        return Path(noted.name).read_text().strip().removeprefix("sha256:")


def small(program: GoProgram, progress: Progress) -> Image:
    """An image of one static program."""

    def make() -> str:
        binary = program.folder / program.name
        with tempfile.TemporaryDirectory(prefix="af-image-") as made:
            context = Path(made)
            shutil.copy(binary, context)
            (context / "Containerfile").write_text(SMALL.format(program.name))
            return build_containerfile(
                context, context / "Containerfile", f"localhost/af-{program.name}:{program.version}"
            )

    return once(program.name, f"{program.version} {SMALL}", make, progress)


def debian(progress: Progress) -> Image:
    """A Debian that has apt and certificates, as the images of container registries have it."""
    release = suite()

    def make() -> str:
        if not shutil.which("mmdebstrap"):
            raise Unavailable("there is no program mmdebstrap; Debian's package mmdebstrap brings it")
        with tempfile.TemporaryDirectory(prefix="af-image-") as made:
            context = Path(made)
            outside = OUTSIDE if INSIDE in os.environ else ()
            wanted = [
                "--variant=minbase",
                "--include=ca-certificates",
                release,
                str(context / "base.tar"),
                find_archive(),
            ]
            run([*outside, *OWN_MOUNTS, "mmdebstrap", "--quiet", *wanted], BUILD_SECONDS)
            (context / "Containerfile").write_text('FROM scratch\nADD base.tar /\nCMD ["/bin/bash"]\n')
            return build_containerfile(context, context / "Containerfile", f"localhost/af-debian:{release}")

    return once(DEBIAN, release, make, progress)


def wheel(into: Path) -> Path:
    """This checkout's package; the same bytes for the same sources."""
    argv = ["env", "SOURCE_DATE_EPOCH=1700000000", sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    run([*argv, "--outdir", str(into), str(CHECKOUT)], 300)
    return next(into.glob("af_hub-*.whl"))


def project(name: str, progress: Progress) -> Image:
    """One of ``images/``."""
    if not IN_CHECKOUT or name not in names():
        raise Unavailable(f"there is no {CHECKOUT}/images/{name}/Containerfile; the images are {', '.join(names())}")
    base = debian(progress)
    home = CHECKOUT / "images"
    shared = [path for path in home.iterdir() if path.is_file()]

    def make() -> str:
        with tempfile.TemporaryDirectory(prefix="af-image-") as made:
            context = Path(made)
            shutil.copytree(home, context / "images")
            package = wheel(context / "dist").relative_to(context)
            given = build_arguments(name, f"localhost/af-debian:{suite()}", str(package))
            options = [f"--build-arg={key}={value}" for key, value in given.items()]
            tag = f"localhost/af-{name}:1"
            return build_containerfile(context, home / name / "Containerfile", tag, *options, *network_options())

    key = digest([home / name, *shared, *(CHECKOUT / source for source in SOURCES)], base.id)
    return once(name, key, make, progress)


def derive(name: str, base: str, lines: Sequence[str], progress: Progress = lambda _: None) -> Image:
    """An image of a test's own: that of the name ``base`` with more lines of a Containerfile, which find no network."""
    below = provide(base, progress)

    def make() -> str:
        with tempfile.TemporaryDirectory(prefix="af-image-") as made:
            context = Path(made)
            (context / "Containerfile").write_text("\n".join([f"FROM {below.id}", *lines, ""]))
            return build_containerfile(context, context / "Containerfile", f"localhost/af-{name}:1")

    return once(name, digest([], below.id, *lines), make, progress)


def provide(name: str, progress: Progress = lambda _: None) -> Image:
    """An image by name: one of the project's, or ``pause``, ``coredns``, ``debian``; built now if need be.

    Raises
    ------
    Unavailable
        When it cannot be built; the message has the end of what buildah said.
    """
    if name in (PAUSE, DNS):
        return small(PAUSE_PROGRAM if name == PAUSE else COREDNS_PROGRAM, progress)
    return debian(progress) if name == DEBIAN else project(name, progress)


def push(image: str, wanted: str, registry: str) -> None:
    """Bring an image of buildah's storage, by id or name, to a registry at ``HOST:PORT`` without TLS, under the reference ``wanted``.

    Not compressed: it goes from one folder of this machine to another.
    """
    target = f"docker://{registry}/{wanted.split('/', 1)[1]}"
    buildah("push", "--tls-verify=false", "--disable-compression", image, target, timeout=PUSH_SECONDS, outside=False)


def stored_bytes() -> int:
    """What buildah's storage has in all its layers, as it says itself (``overlay-layers/layers.json``)."""
    try:
        layers = json.loads((folder() / "storage/overlay-layers/layers.json").read_text())
    except (OSError, ValueError):
        return 0
    return sum(int(layer.get("diff-size", 0)) for layer in layers)


def tidy_up() -> None:
    """Begin anew when there is too much: buildah cannot tell the layers of stages, which make the next build short, from waste."""
    if (found := stored_bytes()) < MOST_BYTES:
        return
    say(f"the images' storage has grown to {found / 1e9:.0f} GB, and is made anew")
    buildah("rmi", "--all", "--force", outside=False)


def main() -> None:
    """Compile and build what is not there, and say at the end what is still not."""
    failed = {}
    if reason := why_not():
        sys.exit(f"nothing is made for tests on a real Kubernetes: {reason}")
    tidy_up()
    for name, make in {**programs(), **images(sys.argv[1:])}.items():
        try:
            make()
        except Unavailable as error:
            failed[name] = error
    for name, why in failed.items():
        say(f"there is no {name}: {why}")
    sys.exit(1 if failed else 0)


def programs() -> dict[str, Callable[[], object]]:
    """How to have each program."""
    return {f"program {program.name}": partial(build, program, say) for program in PROGRAMS}


def images(wanted: Sequence[str]) -> dict[str, Callable[[], object]]:
    """How to have each image: those that are wanted, or all that most tests start."""
    most = [PAUSE, DNS, DEBIAN, *(name for name in names() if name not in RARE)]
    return {f"image {name}": partial(provide, name, say) for name in wanted or most}


if __name__ == "__main__":
    main()
