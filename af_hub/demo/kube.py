"""``make demo-kube``: the demo whose sessions are pods of a real Kubernetes, in a machine of its own around both.

Three layers. :func:`start` runs outside, as root: it takes the ports that browsers go to and makes the machine. :func:`serve` runs in that machine,
still as root: cluster, registry, images, and what the hub may do there. The facility itself runs inside as an ordinary user and is told of
the cluster by a file (:mod:`af_hub.demo.pods`); relays lead browsers to it. Promises: several live side by side; everything ends with
Ctrl-C, and nothing is left. Leaves the cluster to :mod:`af_hub.testing.kube_cluster`.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from rich.console import Console

from af_hub.demo.ground import fetch_images, prepare
from af_hub.demo.run import port_or_free
from af_hub.errors import Unavailable
from af_hub.files import write_private
from af_hub.session.processes import die_with
from af_hub.testing.kube_build import KUBERNETES_PROGRAM, PROGRAMS, build
from af_hub.testing.kube_cluster import KubeCluster
from af_hub.testing.kube_images import PYTHONS, suite
from af_hub.testing.kube_needs import lacks
from af_hub.testing.network import AS_USER

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_SECONDS = 60
# Not of the range from which ports are taken that nobody asked for: inside, such a one could have gone to another part before.
IAM_PORTS = range(8001, 8200)
IMAGES = ("agent", "python-analysis", "python-base")


def start(folder: Path, port: int, ready_fd: int | None = None, with_parent: bool = False) -> NoReturn:
    """Become a machine with all of it, until somebody ends it.

    Raises
    ------
    Unavailable
        When this user or this machine cannot; the sentence says what is wanted.
    """
    if reasons := lacks():
        raise Unavailable("\n".join(f"make demo-kube cannot run here: {reason}" for reason in reasons))
    for program in PROGRAMS:
        build(program, print)
    for_hub, for_iam = socket.create_server(("127.0.0.1", port_or_free(port))), take_first(IAM_PORTS)
    own = for_hub.getsockname()[1]
    if port not in (0, own):
        print(f"Port {port} is taken by another program; the hub has {own} instead.")
    if with_parent:
        die_with(os.getppid(), signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what runs inside hears it too, and ends in order
    ports = []
    for listening in (for_hub, for_iam):
        listening.set_inheritable(True)
        number = listening.getsockname()[1]
        ports += ["--port", str(number), "--listen-fd", str(listening.detach())]
    argv = [sys.executable, "-m", "af_hub.testing.kube_machine", sys.executable, "-m", "af_hub.demo.kube"]
    argv += ["--folder", str(folder.absolute()), *ports]
    argv += ["--outside", str(os.getpid())]  # the same process goes on as the machine
    argv += ["--ready-fd", str(ready_fd)] if ready_fd is not None else []
    os.execv(argv[0], argv)  # noqa: S606


def take_first(ports: Iterable[int]) -> socket.socket:
    """A socket that listens at the first of these ports that is free.

    Raises
    ------
    Unavailable
        When none is.
    """
    for port in ports:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
    raise Unavailable(f"all ports of {ports} are taken by other programs")


def serve(folder: Path, ports: Mapping[int, int], outside: int, ready_fd: int | None) -> int:
    """Cluster, then facility, until that ends; its exit status.

    Parameters
    ----------
    ports
        The hub's and the IAM's, each with the descriptor of the socket that listens there outside.
    """
    port, iam_port = ports
    console = Console(highlight=False, soft_wrap=True)
    with TemporaryDirectory(prefix="af-hub-kube-") as made, ending_by_signal():
        own = Path(made)
        console.print("Starting Kubernetes ...")
        with KubeCluster(own / "logs", progress=console.print) as kube:
            if unlike := why_unlike(sys.version_info[:2], PYTHONS[suite()]):
                console.print(unlike, style="yellow")
            console.print(f"Bringing the images {', '.join(IMAGES)} to the nodes ...")
            images = [kube.push(name) for name in IMAGES]
            pods = replace(prepare(kube, own), iam_port=iam_port).write(own / "pods.json")
            fetch_images(kube, images)
            kubectl = write_private(own / "kubectl", describe_kubectl(kube, outside), 0o700)
            console.print(f"Kubernetes runs; as root, {kubectl} get pods --all-namespaces  looks at it.")
            demo = [sys.executable, "-m", "af_hub.cli", "demo", "--folder", str(folder), "--port", str(port)]
            demo += ["--pods", str(pods), "--with-parent"]
            demo += ["--ready-fd", str(ready_fd)] if ready_fd is not None else []
            with ExitStack() as stack:
                facility = stack.enter_context(as_user(demo, ready_fd))
                for number, descriptor in ports.items():
                    stack.enter_context(as_user(describe_relay(number, descriptor), descriptor))
                    os.close(descriptor)
                return facility.wait()
    console.print("Kubernetes is stopped.")
    return 0


def why_unlike(ours: tuple[int, ...], images: str) -> str:
    """What does not work where the pool's Python, which is ours, is another one than the images'; empty when they are one."""
    found = ".".join(map(str, ours))
    if found == images:
        return ""
    return (
        f"The sites run Python {found} here and the sessions' images {images}: functions of a notebook do not run at the sites. "
        f"For that, make clean and make demo-kube PYTHON=/path/to/python{images}"
    )


def describe_relay(port: int, descriptor: int) -> list[str]:
    """The command that leads what comes to this socket to the port of the same number inside."""
    argv = [sys.executable, "-m", "af_hub.demo.relay"]
    return [*argv, "--listen-fd", str(descriptor), "--to", f"127.0.0.1:{port}"]


def describe_kubectl(kube: KubeCluster, outside: int) -> str:
    """A script that runs kubectl in our network, from where the process ``outside`` is known by this number."""
    program = KUBERNETES_PROGRAM.folder / "kubectl"
    inside = f"$(cat /proc/{outside}/task/{outside}/children)"
    return f'#!/bin/sh\nexec nsenter --target {inside} --net --mount {program} --kubeconfig {kube.kubeconfig} "$@"\n'


@contextmanager
def as_user(argv: list[str], descriptor: int | None) -> "Iterator[subprocess.Popen[bytes]]":
    """Run it as an ordinary user with this descriptor; told to end at the end."""
    process = subprocess.Popen([*AS_USER, *argv], pass_fds=[] if descriptor is None else [descriptor])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """Signals that end us leave the block in order; once, lest a second one cut the ending short."""

    def leave(*_: object) -> None:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in ENDING:
        signal.signal(number, leave)
    try:
        yield
    except KeyboardInterrupt:
        pass


def main() -> None:
    """``python -m af_hub.demo.kube``, in the machine that :func:`start` made."""
    parser = argparse.ArgumentParser(prog="af_hub.demo.kube", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the facility keeps its files")
    parser.add_argument("--port", type=int, action="append", required=True, help="of the hub, and again of the IAM")
    parser.add_argument("--listen-fd", type=int, action="append", required=True, help="a socket that listens there")
    parser.add_argument("--outside", type=int, required=True, help="process id of the machine, outside of it")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets one line of JSON with addresses")
    args = parser.parse_args()
    try:
        sys.exit(serve(args.folder, dict(zip(args.port, args.listen_fd, strict=True)), args.outside, args.ready_fd))
    except Unavailable as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
