"""What ``af-hub check site`` runs twice on one worker node, for two owners: each tries to read the other.

``python3 neighbour.py OWN OTHER SECONDS`` in the sandbox of a batch job; ``OWN`` and ``OTHER`` are names, each the other's reversed. It
lays out secrets where jobs of people have theirs (files, environment, memory, open files, sockets), waits for its neighbour, takes from
it what it gets, and prints JSON: what it got as SHA-256, never the thing itself. Standard library only, no import of ours, Python
3.9 or newer: worker nodes have what they have. It leaves to :mod:`af_hub.condor.check_site` what that means.

The neighbours find each other by a socket with a name that everybody in the same network namespace sees. Where there is none to be
seen, each waits some seconds and tries what can be tried without knowing anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[[], bytes]

WAIT_SECONDS = 15
PUBLIC_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
SECRET = "AF_CHECK_SECRET"  # noqa: S105  the name of a variable
FILE, SOCKET, NAMELESS = "secret.txt", "secret.sock", "secret-without-name"
ALLOWED, SEEN = b"allowed", b"seen"


def digest(found: bytes) -> str:
    """What is told of a secret."""
    return hashlib.sha256(found.strip()).hexdigest()


class Neighbour:
    """This job: what it lays out, and who may be asked for it."""

    def __init__(self, own: str, secret: bytes) -> None:
        self.own, self.secret = own, secret
        self.released = threading.Event()
        self.files = [Path(FILE), *(Path(folder, own) for folder in PUBLIC_FOLDERS)]
        self.open_file = Path(NAMELESS).open("wb+")  # noqa: SIM115
        Path(NAMELESS).unlink()

    def lay_out(self) -> None:
        """Put the secret where jobs have theirs; files are readable by everybody, so that only their folders protect them."""
        for path in self.files:
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                    os.fchmod(file.fileno(), 0o644)
                    file.write(self.secret)
            except OSError:
                pass
        self.open_file.write(self.secret)
        self.open_file.flush()
        self.serve(SOCKET, self.secret)
        Path(SOCKET).chmod(0o600)
        self.serve("\0" + self.own, json.dumps({"folder": str(Path.cwd())}).encode())

    def serve(self, address: str, answer: bytes) -> None:
        """Say ``answer`` to whoever connects; one who says ``done`` has no more use for us."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(8)
        threading.Thread(target=self.answer, args=(listener, answer), daemon=True).start()

    def answer(self, listener: socket.socket, answer: bytes) -> None:
        """Serve for ever."""
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(2)
                try:
                    connection.sendall(answer)
                    if connection.recv(16) == b"done":
                        self.released.set()
                except OSError:
                    pass

    def clear(self) -> None:
        """Leave nothing behind."""
        for path in self.files:
            try:
                path.unlink()
            except OSError:
                pass


def ask(address: str, say: bytes = b"") -> bytes:
    """What a Unix socket answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(address)
        said = connection.recv(4096)
        connection.sendall(say)
        return said


def meet(other: str, seconds: float) -> str:
    """Wait for the neighbour's public socket; its folder, or nothing when there is none to be seen."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            return str(json.loads(ask("\0" + other).decode())["folder"])
        except (OSError, ValueError):
            time.sleep(0.05)
    return ""


def processes_of(other: str) -> Iterator[int]:
    """Processes whose command line names the neighbour where ours names us."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if len(words) > 3 and words[1].endswith(b"neighbour.py") and words[2] == other.encode():
            yield int(folder.name)


def process_file(process: int, name: str) -> Path:
    """What the kernel tells of a process."""
    return Path(f"/proc/{process}", name)


def environment(process: int) -> bytes:
    """The secret in the environment of a process."""
    words = process_file(process, "environ").read_bytes().split(b"\0")
    return next(word for word in words if word.startswith(SECRET.encode())).split(b"=", 1)[1]


def memory(process: int) -> bytes:
    """The secret in the memory of a process: its environment lies on its stack. The kernel asks for the right to trace it."""
    lines = process_file(process, "maps").read_text().splitlines()
    stack = next(line for line in lines if line.endswith("[stack]")).split()[0]
    begin, end = (int(number, 16) for number in stack.split("-"))
    with process_file(process, "mem").open("rb", 0) as file:
        file.seek(begin)
        found = file.read(end - begin)
    return found.split(SECRET.encode() + b"=", 1)[1].split(b"\0", 1)[0]


def open_file(process: int) -> bytes:
    """The secret in a file that the process has open and that has no name any more."""
    links = process_file(process, "fd")
    os.listdir(links)  # noqa: PTH208  says why not, which Path.iterdir and glob keep to themselves
    return next(link for link in links.iterdir() if NAMELESS in str(link.readlink())).read_bytes()


def may_signal(process: int) -> bytes:
    """The right to end the process."""
    os.kill(process, 0)
    return ALLOWED


def socket_of(folder: Path) -> bytes:
    """What the neighbour's private socket says; by way of its folder, since its path may be too long for an address."""
    here = Path.cwd()
    try:
        os.chdir(folder)
        return ask(SOCKET)
    finally:
        os.chdir(here)


def attempts(other: str, folder: str) -> dict[str, list[Call]]:
    """What is tried, by name: calls for each thing that it may be tried on."""
    processes = list(processes_of(other))
    # The folder that the neighbour told, and those beside ours.
    beside = [path for path in Path.cwd().parent.glob("*") if path != Path.cwd()]
    places = [*([Path(folder)] if folder else []), *beside]

    def of_all(call: Callable[[int], bytes]) -> list[Call]:
        return [lambda process=process: call(process) for process in processes]  # type: ignore[misc]

    def files(folders: list[Path], name: str) -> list[Call]:
        return [(one / name).read_bytes for one in folders]

    return {
        "sandbox": files(places, FILE),
        "private socket": [lambda place=place: socket_of(place) for place in places],  # type: ignore[misc]
        "environment": of_all(environment),
        "memory": of_all(memory),
        "open files": of_all(open_file),
        "signals": of_all(may_signal),
        **{path: files([Path(path)], other) for path in PUBLIC_FOLDERS},
        "command lines": of_all(lambda process: SEEN),
        "ports": [lambda: SEEN if folder else b""],
    }


def attempt(calls: list[Call]) -> dict[str, str]:
    """The first that gives something, or why none does."""
    why = "nothing of it is to be seen"
    for call in calls:
        try:
            got = call()
        except (OSError, StopIteration, IndexError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            continue
        if got:
            return {"got": got.decode() if got in (ALLOWED, SEEN) else digest(got)}
    return {"why": why}


def run(own: str, other: str, seconds: float, secret: bytes) -> dict[str, object]:
    """Lay out, meet, try; what came of it, with the times, since who tried must have had a neighbour."""
    deadline = time.time() + seconds
    neighbour = Neighbour(own, secret)
    try:
        neighbour.lay_out()
        facts: dict[str, object] = {"secret": digest(secret), "uid": os.getuid(), "begun": time.time()}
        folder = meet(other, WAIT_SECONDS)
        facts["tried"] = time.time()
        facts["found"] = {name: attempt(calls) for name, calls in attempts(other, folder).items()}
        if folder:
            ask("\0" + other, b"done")
        neighbour.released.wait(max(0.0, deadline - time.time()))
        return {**facts, "ended": time.time()}
    finally:
        neighbour.clear()


def main() -> None:
    """Begin again with a secret in the environment, then run."""
    own, other, seconds = sys.argv[1:]
    if SECRET not in os.environ:
        os.environ[SECRET] = os.urandom(16).hex()
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
    print(json.dumps(run(own, other, float(seconds), os.environ[SECRET].encode())))


if __name__ == "__main__":
    main()
