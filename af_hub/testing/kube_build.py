"""The programs of a Kubernetes, compiled once into the user's cache from their Go modules: ``python -m af_hub.testing.kube_build [NAME…]``.

For :mod:`af_hub.testing.kube_cluster`. Promises exactly the versions below, whose sources Go checks against its checksum database, in
folders that are whole or not there. Leaves etcd, containerd, runc, the CNI plugins and the registry to Debian's packages.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from af_hub.errors import Unavailable
from af_hub.testing.debian import Progress, cache_folder, run, whole_folder

KUBERNETES = "1.34.4"
COREDNS = "1.14.7"
HELM = "3.22.0"

# `go get -tool` came with 1.24.
OLDEST_GO = (1, 24)
BUILD_SECONDS = 3600
FILES = Path(__file__).with_name("kube_files")
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "kube-proxy")
STRIPPED = "-s -w"


@dataclass(frozen=True)
class GoProgram:
    """Main packages of one Go module at one version, and how to make a ``go.mod`` from which they compile."""

    name: str
    version: str
    packages: tuple[str, ...]
    write_module: Callable[[Path], object]
    ldflags: str = STRIPPED

    @property
    def folder(self) -> Path:
        """Where its programs are."""
        return cache_folder() / "kube" / "bin" / f"{self.name}-{self.version}"


def go_env() -> dict[str, str]:
    """Static programs, whatever this machine has for C, and no word of this checkout in them."""
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def staging_modules(gomod: str) -> list[str]:
    """The modules that Kubernetes' own ``go.mod`` takes from ``./staging``, a path that nobody else can follow."""
    return sorted(set(re.findall(r"^\s*(k8s\.io/\S+) => \./staging", gomod, re.MULTILINE)))


def kubernetes_module(version: str, upstream: str) -> str:
    """A ``go.mod`` from which Kubernetes compiles as somebody's requirement: each of its staging modules is published as v0.x too."""
    published = "v0." + version.split(".", 1)[1]
    go = re.findall(r"^go (\S+)", upstream, re.MULTILINE)[0]
    replaced = "\n".join(f"\t{name} => {name} {published}" for name in staging_modules(upstream))
    return f"module kubernetes-tools\n\ngo {go}\n\nrequire k8s.io/kubernetes v{version}\n\nreplace (\n{replaced}\n)\n"


def kubernetes_ldflags(version: str) -> str:
    """What the programs call themselves; v0.0.0-master without, and clients that ask for the version stumble."""
    major, minor, _ = version.split(".")
    said = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join([STRIPPED, *(f"-X {package}.{key}={value}" for package in packages for key, value in said.items())])


def write_kubernetes_module(folder: Path) -> None:
    """Ask for Kubernetes' own ``go.mod``, and write ours."""
    found = json.loads(go("mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}", cwd=folder))
    (folder / "go.mod").write_text(kubernetes_module(KUBERNETES, Path(found["GoMod"]).read_text()))


def write_empty_module(folder: Path) -> None:
    """Nothing but a name; ``go get`` writes the rest."""
    (folder / "go.mod").write_text("module tool\n\ngo 1.24\n")


def write_pause(folder: Path) -> None:
    """Our own little program."""
    (folder / "go.mod").write_text("module pause\n\ngo 1.24\n")
    shutil.copy(FILES / "pause.go", folder)


PAUSE_PROGRAM = GoProgram("pause", "1", (), write_pause)
KUBERNETES_PROGRAM = GoProgram(
    "kubernetes",
    KUBERNETES,
    tuple(f"k8s.io/kubernetes/cmd/{command}" for command in COMMANDS),
    write_kubernetes_module,
    kubernetes_ldflags(KUBERNETES),
)
COREDNS_PROGRAM = GoProgram("coredns", COREDNS, ("github.com/coredns/coredns",), write_empty_module)
HELM_PROGRAM = GoProgram(
    "helm",
    HELM,
    ("helm.sh/helm/v3/cmd/helm",),
    write_empty_module,
    f"{STRIPPED} -X helm.sh/helm/v3/internal/version.version=v{HELM}",
)
PROGRAMS = (PAUSE_PROGRAM, KUBERNETES_PROGRAM, COREDNS_PROGRAM, HELM_PROGRAM)


def go(*arguments: str, cwd: Path) -> str:
    """What a ``go`` command says; Unavailable with its last words when it fails."""
    try:
        done = subprocess.run(
            ["go", *arguments],
            cwd=cwd,
            env=go_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"go {arguments[0]} could not finish: {error}") from error
    if done.returncode:
        raise Unavailable(
            f"go {' '.join(arguments)[:200]} failed with status {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def why_no_go(wanted: tuple[int, int] = OLDEST_GO) -> str:
    """Why nothing can be compiled here; empty when it can."""
    names = ".".join(map(str, wanted))
    hint = f"Go {names} or newer is wanted; Debian 13 has it (golang-go), for others there is the archive of the Go project"
    if not shutil.which("go"):
        return f"there is no program go; {hint}"
    found = re.findall(r"go(\d+)\.(\d+)", run(["go", "env", "GOVERSION"], 60))
    if not found or tuple(map(int, found[0])) < wanted:
        return f"go is {'.'.join(found[0]) if found else 'of an unknown version'}; {hint}"
    return ""


def build(program: GoProgram, progress: Progress = lambda _: None) -> Path:
    """Have a program compiled, and return the folder it is in; at once when it is there.

    Raises
    ------
    Unavailable
        When there is no Go, it is too old, or compiling fails; the message says which.
    """
    with whole_folder(program.folder, program.ldflags, progress) as building:
        if building:
            if reason := why_no_go():
                raise Unavailable(reason)
            progress(f"compiling {program.name} {program.version}; minutes, once")
            source = building / "source"
            source.mkdir()
            program.write_module(source)
            if program.packages:
                go("get", "-tool", *(f"{package}@v{program.version}" for package in program.packages), cwd=source)
            compiled = program.packages or (".",)
            go("build", "-trimpath", "-ldflags", program.ldflags, "-o", f"{building}/", *compiled, cwd=source)
            shutil.rmtree(source)
            progress(f"{program.name} {program.version} is there")
    return program.folder


def is_built(programs: Sequence[GoProgram] = PROGRAMS) -> bool:
    """Whether all of them are there already."""
    return all((program.folder / ".complete").exists() for program in programs)


def say(sentence: str) -> None:
    """One line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {sentence}", file=sys.stderr, flush=True)


def main() -> None:
    """Compile what is not there: all, or those that are named."""
    programs = {program.name: program for program in PROGRAMS}
    if unknown := set(sys.argv[1:]) - set(programs):
        sys.exit(f"found {', '.join(sorted(unknown))}, wanted some of {', '.join(programs)}, or none for all of them")
    try:
        for name in sys.argv[1:] or programs:
            build(programs[name], say)
    except Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
