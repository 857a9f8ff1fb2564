"""The pool as the controller sees it: asynchronous calls, each one short-lived child process with a time limit.

It serves the hop controller → access point; the child is :mod:`af_hub.condor.operation`. It promises that a token or a key lies in
a file (0600, in a folder of this call's own) only while its call lasts, never in an argument list or an environment, and that a
child that does not answer in time is killed. Whether a call may be repeated is the caller's question: a submit whose answer was
lost may have happened.
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from af_hub.condor.ads import (
    DASK_JOBS,
    ENDING_ATTRIBUTES,
    JOB_ATTRIBUTES,
    SLOT_ATTRIBUTES,
    SLOTS,
    DaskJob,
    SiteSlots,
    read_jobs,
    read_slots,
    these_jobs,
)
from af_hub.condor.jobtoken import OWNER_ATTRIBUTES, WAITING_OR_RUNNING, Owner, read_owners
from af_hub.condor.why import Ending, one_line, read_ending
from af_hub.errors import PoolAway, Refused
from af_hub.files import write_private

CALL_SECONDS = 8.0
"""That anything else may take; whoever asked for a Dask cluster hears within ten that there will be none."""

MANY_SECONDS = 0.05
"""... and for each file of a submit more."""


@dataclass(frozen=True)
class Submitted:
    """Jobs that an access point took, and what it said about them all the same, a sentence each."""

    jobs: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CondorPool:
    """One HTCondor pool.

    Parameters
    ----------
    collector, schedd, ca_file
        As in ``facility.yaml`` (pools.*).
    python
        A Python that has ``af_hub`` and ``htcondor2``.
    timeout
        Seconds that a call may take.
    scratch
        Private folder for the files of calls; the system's when None. What a killed process leaves there is its successor's to remove.
    """

    collector: str
    schedd: str
    ca_file: str
    python: str = sys.executable
    timeout: float = CALL_SECONDS
    scratch: Path | None = None

    async def submit(self, token: str, description: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
        """Submit as the token's owner, all jobs of the description or none; their ids ``ClusterId.ProcId``.

        Parameters
        ----------
        token
            A token of an IAM that the pool accepts.
        description
            With its ``queue`` statement, as :func:`af_hub.condor.submit.describe_job` renders it.
        files
            What is spooled, by name or by ``worker/name``.

        Raises
        ------
        Refused
            When the access point does not take the token or the jobs.
        PoolAway
            When there was no answer in time; the jobs may be in the queue.
        """
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            folder = _write_files(Path(private) / "files", files)
            request = {"op": "submit", "folder": str(folder), "description": description}
            patient = replace(self, timeout=self.timeout + MANY_SECONDS * len(files))
            found = await patient._call(Path(private), request, token=token)
        return tuple(found["jobs"])

    async def submit_from(self, token: str, description: str, folder: Path) -> Submitted:
        """As :meth:`submit`, with what the description names below ``folder``, and whatever an access point may be asked to run.

        Files that are not there are a reason to refuse, too, before the access point is asked.
        """
        request = {"op": "submit", "folder": str(folder), "description": description, "look": True}
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            found = await self._call(Path(private), request, token=token)
        return Submitted(tuple(found["jobs"]), tuple(found["warnings"]))

    async def remove(self, token: str, constraint: str) -> int:
        """Remove the jobs of the token's owner that match; how many that were.

        Raises
        ------
        Refused
            When there are jobs of another account among them, which stay; those of the owner are removed all the same.
        PoolAway
            When there was no answer in time.
        """
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            found = await self._call(Path(private), {"op": "remove", "constraint": constraint}, token=token)
        if denied := int(found["denied"]):
            raise Refused(
                f"HTCondor does not let you remove {denied} job{'s' if denied > 1 else ''}, which another account than yours owns"
            )
        return int(found["removed"])

    async def keep_token(self, token: str, job_token: str) -> None:
        """Leave ``job_token`` at the access point, for the jobs of the token's owner that ask for it (:mod:`af_hub.condor.jobtoken`).

        Raises
        ------
        Refused
            When the access point does not take the token.
        PoolAway
            When there was no answer in time, or nothing there that keeps tokens.
        """
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            await self._call(Path(private), {"op": "keep_token", "job_token": job_token}, token=token)

    async def token_owners(self, reader_token_file: Path) -> frozenset[Owner]:
        """Who has jobs that ask for a token and have not ended."""
        return read_owners(await self.query(reader_token_file, WAITING_OR_RUNNING, OWNER_ATTRIBUTES))

    async def run(self, credential: str, description: str, files: Mapping[str, bytes], seconds: float) -> str:
        """Submit one job, wait for its end, and return what it printed; nothing of it is left in the queue.

        Parameters
        ----------
        credential
            A token of an IAM, or tokens of the pool, one a line.
        seconds
            How long it may take, waiting included.

        Raises
        ------
        Refused
            When the access point does not take it, it is held, or it printed nothing.
        PoolAway
            When it has not ended in time.
        """
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            folder = _write_files(Path(private) / "files", files)
            request = {"op": "run", "folder": str(folder), "description": description, "seconds": seconds}
            patient = replace(self, timeout=seconds + self.timeout)
            found = await patient._call_as(Path(private), request, credential)
        if not found["said"]:
            raise Refused(f"the job printed nothing but: {one_line(found['complained'])[-500:] or 'nothing'}")
        return str(found["said"])

    async def slot_ads(self, credential: str, constraint: str, projection: Sequence[str]) -> list[dict[str, Any]]:
        """Slot ads, read with a credential as in :meth:`run`."""
        request = {"op": "slots", "constraint": constraint, "projection": list(projection)}
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            ads: list[dict[str, Any]] = (await self._call_as(Path(private), request, credential))["ads"]
        return ads

    async def query(self, reader_token_file: Path, constraint: str, projection: Sequence[str]) -> list[dict[str, Any]]:
        """Job ads, read with tokens of the pool (one a line)."""
        return await self._read("query", reader_token_file, constraint, projection)

    async def jobs(self, reader_token_file: Path) -> list[DaskJob]:
        """All jobs of Dask clusters in the queue."""
        return list(read_jobs(await self.query(reader_token_file, DASK_JOBS, JOB_ATTRIBUTES)))

    async def ending(self, reader_token_file: Path, job: str) -> Ending | None:
        """How a job ended that is not in the queue any more; None when the access point does not remember it."""
        ads = await self._read("history", reader_token_file, these_jobs([job]), ENDING_ATTRIBUTES)
        return read_ending(ads[0]) if ads else None

    async def slots(self, reader_token_file: Path) -> dict[str, SiteSlots]:
        """What each site has, by ``SiteName``."""
        return read_slots(await self._read("slots", reader_token_file, SLOTS, SLOT_ATTRIBUTES))

    async def _read(
        self, op: str, reader_token_file: Path, constraint: str, projection: Sequence[str]
    ) -> list[dict[str, Any]]:
        request = {"op": op, "constraint": constraint, "projection": list(projection)}
        with tempfile.TemporaryDirectory(prefix="af-hub-condor-", dir=self.scratch) as private:
            folder = _copy_tokens(reader_token_file, Path(private) / "tokens")
            found = await self._call(Path(private), {**request, "tokens_folder": str(folder)})
        ads: list[dict[str, Any]] = found["ads"]
        return ads

    async def _call_as(self, private: Path, request: Mapping[str, Any], credential: str) -> dict[str, Any]:
        if is_iam_token(credential):
            return await self._call(private, request, token=credential.strip())
        folder = _write_files(private / "tokens", {"own": credential.encode()})
        return await self._call(private, {**request, "tokens_folder": str(folder)})

    async def _call(self, private: Path, request: Mapping[str, Any], token: str = "") -> dict[str, Any]:
        if token:
            request = {**request, "token_file": str(write_private(private / "token", token))}
        where = {"collector": self.collector, "schedd": self.schedd, "ca_file": str(self.ca_file)}
        said = await self._child(json.dumps({**request, **where, "parent": os.getpid()}).encode())
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise PoolAway("the HTCondor operation ended without an answer") from error
        if "error" not in found:
            return found
        kind, message = found["error"]["kind"], found["error"]["message"]
        raise (PoolAway if kind == "unavailable" else Refused)(message)

    async def _child(self, request: bytes) -> bytes:
        # -P: a file in the working folder is never imported.
        child = await asyncio.create_subprocess_exec(
            *(self.python, "-P", "-m", "af_hub.condor.operation"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull},
            start_new_session=True,
        )
        try:
            said, _ = await asyncio.wait_for(child.communicate(request), self.timeout)
        except TimeoutError as error:
            raise PoolAway(f"the HTCondor pool did not answer within {self.timeout:.0f} s") from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return said


def is_iam_token(credential: str) -> bool:
    """Whether this is one token of an IAM; else it is tokens of the pool, whose issuer is no address but the pool's domain."""
    try:
        payload = credential.strip().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["iss"]).startswith("https://")
    except (IndexError, LookupError, TypeError, ValueError) as error:
        raise Refused("this is no token: one of an IAM, or tokens of the pool, one a line, were wanted") from error


def _write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / name, content)
    return folder


def _copy_tokens(file: Path, folder: Path) -> Path:
    """Put the tokens into a folder of their own: HTCondor tries every file that it finds beside a token."""
    folder.mkdir(mode=0o700)
    write_private(folder / "reader", file.read_bytes())
    return folder
