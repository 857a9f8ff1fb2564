"""One operation on the pool as one person: ``python -m af_hub.condor.operation``, a request on standard input, the answer on
standard output, both JSON.

A process of its own, because ``htcondor2`` holds the interpreter's lock during every call, keeps a black-holed submit for two
minutes, and uses one person's security session for the next person in the same process. :mod:`af_hub.condor.pool` starts it,
limits its time and kills it. It promises to look at no token but the one it was given, and to answer every failure as
``{"error": {"kind", "message"}}``, where the kind is ``unavailable``, ``refused`` or ``invalid`` and the message is fit for people.

Requests have ``parent`` (who asks; this process ends with that one), ``op``, ``collector``, ``schedd``, ``ca_file``, and
``token_file`` (a token of an IAM) or ``tokens_folder`` (tokens of the pool); and for

``submit``
    ``description``, with its ``queue`` statement, ``folder``, where its files are, and ``look``, whether they may be missing
    → ``{"jobs": ["12.0", …], "warnings"}``, what the access point says though it took them
``remove``
    ``constraint`` → ``{"removed", "denied"}``
``query``
    ``constraint``, ``projection`` → ``{"ads"}``
``history``
    ``constraint``, ``projection`` → ``{"ads"}`` of jobs that have left the queue
``slots``
    ``constraint``, ``projection`` → ``{"ads"}``
``run``
    ``description`` of one job, ``folder``, where its files are, and ``seconds`` → ``{"said", "complained"}``, what it printed
``keep_token``
    ``job_token``, which the access point shall give to jobs of whoever asks → ``{}``
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from af_hub.condor.inputs import missing_files
from af_hub.condor.jobstatus import JobState, job_state
from af_hub.condor.jobtoken import SERVICE, credd_address
from af_hub.condor.why import hung_up, one_line, read_warning, shorten, why_failed
from af_hub.session.processes import die_with

if TYPE_CHECKING:
    import classad2
    import htcondor2

CONNECT_SECONDS = 3
HISTORY_AT_MOST = 10
LONGEST_TEXT = 10_000
POLL_SECONDS = 0.3
NAMED = 5
OUTPUT, ERRORS = "job.out", "job.err"


class Failed(Exception):
    """The operation's answer is an error of this kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def settings(request: Mapping[str, Any]) -> dict[str, str]:
    """HTCondor's settings for this process, as environment variables: this pool, this token, nothing of the machine."""
    own = {
        "COLLECTOR_HOST": request["collector"],
        "AUTH_SSL_CLIENT_CAFILE": request["ca_file"],
        "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "SEC_CLIENT_ENCRYPTION": "REQUIRED",
        "SEC_CLIENT_INTEGRITY": "REQUIRED",
        # No session is kept, so none can be used for anybody else.
        "SEC_CLIENT_SESSION_DURATION": "0",
        "SEC_DEFAULT_SESSION_DURATION": "0",
        "SEC_TOOL_SESSION_DURATION": "0",
        "SEC_TOKEN_DIRECTORY": request.get("tokens_folder") or os.devnull,
        "SEC_TOKEN_SYSTEM_DIRECTORY": os.devnull,
        "SEC_PASSWORD_DIRECTORY": os.devnull,
        # Else in the home that the password file says, whatever HOME is; we trust the authority in ca_file and nobody met before.
        "SEC_KNOWN_HOSTS": os.devnull,
        "NETWORK_HOSTNAME": "localhost",
    }
    if "token_file" in request:
        own |= {"SEC_CLIENT_AUTHENTICATION_METHODS": "SCITOKENS", "SCITOKENS_FILE": request["token_file"]}
    else:
        own |= {"SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS"}
    return {"CONDOR_CONFIG": os.devnull} | {f"_condor_{name}": value for name, value in own.items()}


def submit(request: Mapping[str, Any]) -> dict[str, Any]:
    """Submit and spool, all or nothing."""
    import htcondor2

    os.chdir(request["folder"])
    try:
        description = htcondor2.Submit(request["description"])
        missing = missing_files(request["description"], Path(request["folder"])) if request.get("look") else []
    except (htcondor2.HTCondorException, ValueError) as error:
        raise Failed("invalid", f"HTCondor cannot read the submit description: {error}") from error
    if missing:
        raise Failed("invalid", name_missing(missing, request["folder"]))
    schedd = find_schedd(request)
    with being_warned() as told:
        result = schedd.submit(description, spool=True)
    try:
        schedd.spool(result)
    except htcondor2.HTCondorException as error:
        with suppress(htcondor2.HTCondorException):
            schedd.act(
                htcondor2.JobAction.Remove, f"ClusterId == {result.cluster()}", reason="its files could not be spooled"
            )
        # It took the jobs: what keeps it from taking their files, it would say in the same words if it were going down.
        raise Failed(
            "unavailable", f"the access point took the jobs and not their input files ({shorten(str(error))})"
        ) from error
    return {"jobs": [f"{result.cluster()}.{number}" for number in range(result.num_procs())], "warnings": told}


def name_missing(names: list[str], folder: str) -> str:
    """What is wrong with a description whose files are not there; a few of them are enough."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    some = ", ".join(names[:NAMED])
    return one_line(f"the submit description names files that are not in {folder}, or cannot be read: {some}{more}")


@contextmanager
def being_warned() -> Iterator[list[str]]:
    """What HTCondor's library warns of meanwhile, complete at the end."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
    told += [line for one in caught for line in read_warning(str(one.message))]


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    """Submit, wait for the end, fetch what was printed, and leave nothing in the queue."""
    import htcondor2

    (job,) = submit(request)["jobs"]
    constraint = f"ClusterId == {int(job.partition('.')[0])}"
    schedd = find_schedd(request)
    try:
        wait(schedd, constraint, time.monotonic() + request["seconds"])
        schedd.retrieve(constraint)
        said, complained = (Path(request["folder"], name).read_bytes() for name in (OUTPUT, ERRORS))
        return {"said": said.decode(errors="replace"), "complained": complained.decode(errors="replace")}
    except FileNotFoundError as error:
        raise Failed("refused", "the job ended without a word; somebody may have removed it") from error
    finally:
        schedd.act(htcondor2.JobAction.Remove, constraint, reason="its output was fetched, or nobody waits any more")


def wait(schedd: htcondor2.Schedd, constraint: str, deadline: float) -> None:
    """Wait until a spooled job has ended."""
    state = JobState.SPOOLING
    while time.monotonic() < deadline:
        found = schedd.query(constraint, projection=["JobStatus", "HoldReasonCode", "HoldReason"])
        state = job_state(found[0]) if found else JobState.ENDED
        if state is JobState.ENDED:
            return
        if state is JobState.HELD:
            raise Failed("refused", f"the job is held: {found[0].get('HoldReason')}")
        time.sleep(POLL_SECONDS)
    raise Failed("unavailable", f"the job has not ended in time; it is {state}")


def remove(request: Mapping[str, Any]) -> dict[str, Any]:
    """Remove jobs; those of others are counted, not touched."""
    import htcondor2

    reason = request.get("reason", "removed by AF Hub for its owner")
    schedd = find_schedd(request)
    try:
        found = schedd.act(htcondor2.JobAction.Remove, request["constraint"], reason=reason)
    except htcondor2.HTCondorException as error:
        # It says "Error when performing action on the schedd" and no more; the answer to a question says whether it is there.
        schedd.query("False", projection=["ClusterId"])
        raise Failed("refused", "the access point does not let you change jobs there") from error
    return {"removed": found["TotalSuccess"], "denied": found["TotalPermissionDenied"]}


def history(request: Mapping[str, Any]) -> dict[str, Any]:
    """Ads of jobs that have left the queue."""
    ads = find_schedd(request).history(request["constraint"], list(request["projection"]), match=HISTORY_AT_MOST)
    return {"ads": [simple(ad) for ad in ads]}


def query(request: Mapping[str, Any]) -> dict[str, Any]:
    """Job ads."""
    ads = find_schedd(request).query(request["constraint"], projection=list(request["projection"]))
    return {"ads": [simple(ad) for ad in ads]}


def slots(request: Mapping[str, Any]) -> dict[str, Any]:
    """Slot ads."""
    import htcondor2

    collector = htcondor2.Collector(request["collector"])
    ads = collector.query(htcondor2.AdType.Slot, request["constraint"], projection=list(request["projection"]))
    return {"ads": [simple(ad) for ad in ads]}


def keep_token(request: Mapping[str, Any]) -> dict[str, Any]:
    """Leave a token at the access point, for the jobs of whoever asks."""
    import classad2
    import htcondor2

    schedd = locate_schedd(request)
    place = {"MyAddress": credd_address(schedd["MyAddress"]), "Name": schedd["Name"]}
    try:
        credd = htcondor2.Credd(classad2.ClassAd(place))
        credd.add_user_service_cred(htcondor2.CredType.OAuth, request["job_token"].encode(), SERVICE)
    except htcondor2.HTCondorException as error:
        # It says "Communication error" of nearly everything; the answer to a question says whether the access point is there.
        htcondor2.Schedd(schedd).query("False", projection=["ClusterId"])
        raise Failed(
            "unavailable",
            f"the access point takes no tokens for jobs now ({shorten(str(error))} from its condor_credd)",
        ) from error
    return {}


def find_schedd(request: Mapping[str, Any]) -> htcondor2.Schedd:
    """The access point, by its name in the collector."""
    import htcondor2

    return htcondor2.Schedd(locate_schedd(request))


def locate_schedd(request: Mapping[str, Any]) -> classad2.ClassAd:
    """Where the access point is."""
    import htcondor2

    collector = htcondor2.Collector(request["collector"])
    try:
        return collector.locate(htcondor2.DaemonType.Schedd, request["schedd"])
    except htcondor2.HTCondorException as error:
        if "communication" in str(error):
            raise
        raise Failed("unavailable", f"the access point {request['schedd']} is not in the pool at present") from error


def simple(ad: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON knows; what is undefined is left out, everything else becomes its text.

    Whoever submits a job or offers a slot can write into its ad what they like: what cannot be read is left out, so that it hides
    nothing of anybody else's.
    """
    return {name: value for name in ad if (value := plain(ad, name)) is not None}


def plain(ad: Mapping[str, Any], name: str) -> str | int | float | None:
    """One value; None when it is undefined, longer than any of ours, or no text of real characters."""
    import classad2

    try:
        value = ad[name]
        if isinstance(value, classad2.Value):
            return None
        plain = value if isinstance(value, str | int | float) else str(value)
    except Exception:  # classad2 lets through whatever Python's own library said, SystemError among it
        return None
    return None if isinstance(plain, str) and len(plain) > LONGEST_TEXT else plain


def reachable(collector: str) -> bool:
    """Whether anything takes a connection at the collector's address."""
    host, _, port = collector.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def overhearing() -> Iterator[Callable[[], str]]:
    """What HTCondor's library writes to standard error meanwhile: about a collector, its exceptions say the same of everything."""
    import htcondor2

    heard, ours = os.memfd_create("heard"), os.dup(2)
    os.dup2(heard, 2)
    htcondor2.enable_debug()
    try:
        yield lambda: os.pread(heard, os.fstat(heard).st_size, 0).decode(errors="replace")
    finally:
        os.dup2(ours, 2)


OPERATIONS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "submit": submit,
    "remove": remove,
    "query": query,
    "history": history,
    "slots": slots,
    "run": run,
    "keep_token": keep_token,
}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Do what is asked; a failure is an answer, too."""
    if not reachable(request["collector"]):
        failed = Failed("unavailable", f"the HTCondor pool at {request['collector']} does not answer")
        return {"error": {"kind": failed.kind, "message": str(failed)}}
    os.environ.update(settings(request))
    import htcondor2

    with overhearing() as heard:
        try:
            return OPERATIONS[request["op"]](request)
        except Failed as error:
            failed = error
        except htcondor2.HTCondorException as error:
            alive = reachable(request["collector"]) and not hung_up(heard())
            failed = Failed(*why_failed(str(error), request["collector"], alive))
    return {"error": {"kind": failed.kind, "message": str(failed)}}


def main() -> None:
    """One request, one answer. Whoever asked and died hears no answer, so there is none to be given: nothing goes on unheard."""
    request = json.load(sys.stdin)
    die_with(request["parent"], signal.SIGKILL)
    json.dump(answer(request), sys.stdout)


if __name__ == "__main__":
    main()
