"""A facility and sites behind firewalls, as network namespaces of this machine: for tests of who dials whom.

Serves the hop from a site to the facility. The centre is a machine of the Internet. Each site is a private network behind a router that
translates addresses and lets nothing in; all sites have the same private addresses, as happens in life. ::

    centre 10.77.0.1 ── internet ─┬─ 10.77.1.1 router ── 192.168.50.10, .11   T2_A
                                  └─ 10.77.2.1 router ── 192.168.50.10        T2_B

Promises: made without root, in a user namespace of its own; nothing of it is seen in the rest of the machine, and all of it is gone
when whoever made it ends, however that happens. What comes towards a site without having been asked from there is dropped and
counted; what sites dial is noted. Leaves to the caller what runs there (:attr:`Network.enter` leads in).
"""

import json
import select
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from af_hub.errors import Unavailable

CENTRE, CENTRE_ADDRESS = "centre", "10.77.0.1"
DOMAIN = "af-hub.test"
INTERNET = "internet"
SECONDS = 20
TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2", "nft": "nftables"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AS_USER = ("unshare", "--user", "--map-user=65534", "--map-group=65534")

# The Internet has no way to private addresses. Packets for them are counted before it would say so.
INTERNET_RULES = """\
table ip facility {
  counter unasked { }
  chain before {
    type filter hook prerouting priority -400; policy accept;
    ip daddr 192.168.0.0/16 counter name unasked drop
  }
}
"""

# `lan` to `lan`: frames between nodes pass here too where the kernel's br_netfilter is loaded.
ROUTER_RULES = """\
table ip site {
  counter unasked { }
  set dialled { type ipv4_addr . inet_proto . inet_service; size 1024; flags dynamic; }
  chain to_router {
    type filter hook input priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" counter name unasked drop
  }
  chain through {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "wan" counter name unasked drop
    iifname "lan" oifname "wan" add @dialled { ip daddr . ip protocol . th dport } accept
    iifname "lan" oifname "lan" accept
  }
  chain after {
    type nat hook postrouting priority 100; policy accept;
    oifname "wan" masquerade
  }
}
"""


@dataclass(frozen=True)
class Site:
    """A private network; ``number`` stands in its public addresses."""

    name: str
    number: int
    nodes: int = 1

    @property
    def router(self) -> str:
        """The namespace of its router."""
        return f"{self.name}-router"

    @property
    def public_address(self) -> str:
        """Of the router; all of the site seems to come from there."""
        return f"10.77.{self.number}.1"

    def node(self, index: int) -> str:
        """The namespace of a worker node."""
        return f"{self.name}-{index}"

    def address(self, index: int) -> str:
        """A worker node's own address, which another site's node may have too."""
        return f"192.168.50.{10 + index}"


def describe_network(sites: Iterable[Site], folder: Path) -> str:
    """The shell script that makes all of it, where it may; ``hosts`` and ``resolv.conf`` of ``folder`` take the place of those in /etc."""
    lines = [
        "set -eu",
        f"export PATH={PATH}",
        *(f"mount --bind {shlex.quote(str(folder / name))} /etc/{name}" for name in ("hosts", "resolv.conf")),
        "mount -t tmpfs none /run",  # `ip` keeps the names of namespaces there
        *_machine(INTERNET, forwards=True),
        *_machine(CENTRE),
        *_uplink(CENTRE, 0),
        *_rules(INTERNET, INTERNET_RULES),
        *(line for site in sites for line in _describe_site(site)),
    ]
    return "\n".join(lines) + "\n"


def _describe_site(site: Site) -> Iterator[str]:
    yield from _machine(site.router, forwards=True)
    yield from _rules(site.router, ROUTER_RULES)
    yield from _uplink(site.router, site.number)
    yield f"ip -n {site.router} link add dev lan type bridge"
    yield from _address(site.router, "lan", "192.168.50.1/24")
    for index in range(site.nodes):
        node, port = site.node(index), f"lan{index}"
        yield from _machine(node)
        yield f"ip link add dev lan netns {node} type veth peer name {port} netns {site.router}"
        yield f"ip -n {site.router} link set dev {port} master lan up"
        yield from _address(node, "lan", f"{site.address(index)}/24", gateway="192.168.50.1")


def _machine(name: str, forwards: bool = False) -> Iterator[str]:
    yield f"ip netns add {name}"
    yield f"ip -n {name} link set dev lo up"
    if forwards:
        yield f"nsenter --net=/run/netns/{name} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"


def _uplink(name: str, number: int) -> Iterator[str]:
    """A cable from ``name`` to the Internet's router."""
    yield f"ip link add dev wan netns {name} type veth peer name wan{number} netns {INTERNET}"
    yield from _address(INTERNET, f"wan{number}", f"10.77.{number}.254/24")
    yield from _address(name, "wan", f"10.77.{number}.1/24", gateway=f"10.77.{number}.254")


def _address(name: str, device: str, address: str, gateway: str = "") -> Iterator[str]:
    yield f"ip -n {name} addr add {address} dev {device}"
    yield f"ip -n {name} link set dev {device} up"
    if gateway:
        yield f"ip -n {name} route add default via {gateway}"


def _rules(name: str, rules: str) -> list[str]:
    return [f"nsenter --net=/run/netns/{name} nft -f - <<'RULES'", rules + "RULES"]


def describe_hosts(hostname: str, sites: Iterable[Site]) -> str:
    """The only names that there are; programs look up their own machine's name, and the names of who dials them."""
    lines = [f"127.0.0.1 localhost {hostname}", f"{CENTRE_ADDRESS} {CENTRE}.{DOMAIN} {CENTRE}"]
    lines += [f"{site.public_address} {site.name.lower().replace('_', '-')}.{DOMAIN}" for site in sites]
    return "\n".join(lines) + "\n"


class Network:
    """The network; a context manager, to be entered once.

    Parameters
    ----------
    folder
        Gets two small files.
    """

    def __init__(self, folder: Path, sites: Iterable[Site]) -> None:
        self.folder, self.sites = folder, {site.name: site for site in sites}
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Make it.

        Raises
        ------
        Unavailable
            When this machine does not let us, or lacks a tool; the message says which.
        """
        if lacking := sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)}):
            raise Unavailable(f"network namespaces want the Debian packages {', '.join(lacking)}")
        (self.folder / "hosts").write_text(describe_hosts(socket.gethostname(), self.sites.values()))
        # Nobody answers there, so that a look-up fails at once instead of after seconds.
        (self.folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        # The namespaces live as long as `cat`, and that as long as the other end of its pipe, which only this process holds.
        script = describe_network(self.sites.values(), self.folder) + "echo made\nexec cat\n"
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self._wait(self._holder)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go: it ends with the last process in it."""
        if self._holder:
            self._holder.kill()
            self._holder.communicate()
            self._holder = None

    @property
    def holder(self) -> int:
        """The process that keeps the namespaces while nothing else is in them."""
        assert self._holder, "the network is not there"
        return self._holder.pid

    def enter(self, name: str) -> list[str]:
        """What stands before a command that runs as an ordinary user in that namespace; its working directory becomes ``/``."""
        return [*self._enter(name), *AS_USER]

    def unasked(self) -> dict[str, int]:
        """Packets so far that nobody at a site had asked for: by the name of the site whose router dropped them, or ``internet``."""
        places = {INTERNET: INTERNET, **{name: site.router for name, site in self.sites.items()}}
        return {name: count_packets(self._nft(place, "counters")) for name, place in places.items()}

    def dialled(self, site: str) -> set[tuple[str, str, int]]:
        """Address, protocol and port of everything outside that the site's nodes have dialled so far."""
        return read_dialled(self._nft(self.sites[site].router, "sets"))

    def _enter(self, name: str) -> list[str]:
        outer = ["nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials"]
        return [*outer, "nsenter", f"--net=/run/netns/{name}"]

    def _nft(self, name: str, what: str) -> dict[str, Any]:
        argv = [*self._enter(name), "nft", "--json", "list", what]
        done = subprocess.run(argv, env={"PATH": PATH}, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise Unavailable(f"nft failed: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @staticmethod
    def _wait(holder: "subprocess.Popen[str]") -> None:
        assert holder.stdout
        said = holder.stdout.readline() if select.select([holder.stdout], [], [], SECONDS)[0] else "it takes too long"
        if said != "made\n":
            raise Unavailable(f"this machine does not let us make network namespaces: {said.strip()}")


def count_packets(answer: Mapping[str, Any]) -> int:
    """The packets of all counters that ``nft --json list counters`` tells."""
    return sum(part["counter"]["packets"] for part in answer["nftables"] if "counter" in part)


def read_dialled(answer: Mapping[str, Any]) -> set[tuple[str, str, int]]:
    """The elements of the set ``dialled`` in what ``nft --json list sets`` tells."""
    elements = [each for part in answer["nftables"] if "set" in part for each in part["set"].get("elem", [])]
    return {tuple(each["concat"]) for each in elements}
