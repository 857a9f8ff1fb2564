"""What is free on this machine now, for the spawn page of sessions that are plain processes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from af_hub.policy.sessions import Size
from af_hub.policy.units import describe_bytes


class WhatIsFree(Protocol):
    """What the spawn page says of the place where sessions run."""

    def describe(self) -> str:
        """One sentence; empty when nothing is known."""

    def lacks(self, size: Size) -> str:
        """What there is too little of for ``size``, as a sentence; empty when it fits."""


@dataclass(frozen=True)
class Free:
    """Cores and memory; memory in bytes."""

    cores: float
    all_cores: int
    memory: int
    all_memory: int

    def describe(self) -> str:
        """One sentence for the page."""
        return (
            f"Free on this machine now: {self.cores:g} of {self.all_cores} cores, "
            f"{describe_bytes(_rounded(self.memory))} of {describe_bytes(_rounded(self.all_memory))} memory."
        )

    def lacks(self, size: Size) -> str:
        """What there is too little of for ``size``, as a sentence; empty when it fits."""
        if size.resources:
            return "Sessions here are plain processes: it starts, and shares what this machine has."
        missing = [
            *(["cores"] if size.cpus > self.cores else []),
            *(["memory"] if size.memory > self.memory else []),
        ]
        return f"Not enough {' and '.join(missing)} free now: it starts, and shares with others." if missing else ""


def read_free(meminfo: str, loadavg: str, cores: int) -> Free:
    """From the texts of /proc/meminfo and /proc/loadavg (proc(5)); busy cores are the load of the last minute."""
    kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.splitlines() if len(line.split()) > 1}
    busy = float(loadavg.split()[0])
    return Free(
        cores=round(max(0.0, cores - busy), 1),
        all_cores=cores,
        memory=kibibytes["MemAvailable"] * 1024,
        all_memory=kibibytes["MemTotal"] * 1024,
    )


def free_now() -> Free:
    """As the kernel says it now."""
    return read_free(Path("/proc/meminfo").read_text(), Path("/proc/loadavg").read_text(), len(os.sched_getaffinity(0)))


def describe_size(size: Size) -> str:
    """``4 cores, 16 GiB memory, 1 NVIDIA GPU``."""
    parts = [f"{size.cpus:g} core{'' if size.cpus == 1 else 's'}", f"{describe_bytes(size.memory)} memory"]
    return ", ".join([*parts, *(describe_resource(name, count) for name, count in size.resources.items())])


def describe_resource(name: str, count: int) -> str:
    """``nvidia.com/gpu`` as ``1 NVIDIA GPU``; what is no vendor's GPU by the name that the nodes give it."""
    vendor, slash, kind = name.rpartition("/")
    if not slash or kind != "gpu":
        return f"{count} {name}"
    return f"{count} {vendor.partition('.')[0].upper()} GPU{'' if count == 1 else 's'}"


def _rounded(amount: int) -> int:
    """To a tenth of a GiB, or a whole one from ten on: nobody needs more."""
    gib = amount / 2**30
    return round(gib) * 2**30 if gib >= 10 else int(round(gib, 1) * 2**30)
