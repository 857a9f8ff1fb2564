"""What somebody with a token may try with HTCondor's own library: ``attacks.py NAME SCHEDD ARGUMENTS…``.

Runs in the attacker's process and folder; prints JSON: the outcome, or ``{"refused": …}``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import htcondor2

PLAIN = {
    "executable": "/bin/sh",
    "transfer_executable": "False",
    "request_cpus": "1",
    "request_memory": "10MB",
    "request_disk": "1MB",
    "should_transfer_files": "YES",
    "output": "job.out",
    "error": "job.err",
    "job_max_vacate_time": "1",
}
ENDED = 4
HELD = 5


def submit(schedd: htcondor2.Schedd, wanted: dict[str, str], spool: bool = True) -> htcondor2.SubmitResult:
    result = schedd.submit(htcondor2.Submit({**PLAIN, **wanted}), spool=spool)
    if spool:
        schedd.spool(result)
    return result


def outcome(schedd: htcondor2.Schedd, cluster: int, seconds: float = 30) -> dict[str, Any]:
    """Wait until the job ended or is held for another reason than spooling; what it printed when it ended."""
    deadline = time.monotonic() + seconds
    names = ["JobStatus", "HoldReason", "HoldReasonCode", "SUBMIT_Iwd"]
    while time.monotonic() < deadline:
        ads = schedd.query(f"ClusterId == {cluster}", projection=names)
        if not ads:
            return {"gone": True}
        if ads[0]["JobStatus"] == ENDED:
            schedd.retrieve(f"ClusterId == {cluster}")
            found = [Path(ads[0].get("SUBMIT_Iwd", "."), name) for name in ("job.out", "job.err")]
            return {"said": "".join(path.read_text(errors="replace") for path in found if path.exists())}
        if ads[0]["JobStatus"] == HELD and ads[0]["HoldReasonCode"] != 16:
            return {"held": ads[0]["HoldReason"]}
        time.sleep(0.05)
    return {"waits": True}


def submit_with(schedd: htcondor2.Schedd, wanted: str, spool: str = "yes") -> dict[str, Any]:
    """A job that prints every file that it finds in its folder and on its standard input."""
    job = {"arguments": "\"-c 'pwd; cat ./* - < /dev/stdin'\"", **json.loads(wanted)}
    result = submit(schedd, job, spool == "yes")
    return outcome(schedd, result.cluster())


def submit_only(schedd: htcondor2.Schedd, wanted: str, spool: str = "yes") -> dict[str, Any]:
    """Submit; the ad that came of it."""
    result = submit(schedd, {"arguments": '"-c true"', **json.loads(wanted)}, spool == "yes")
    ad = schedd.query(f"ClusterId == {result.cluster()}")[0]
    return {name: value for name, value in ad.items() if isinstance(value, str | int)}


def edit(schedd: htcondor2.Schedd, wanted: str) -> dict[str, Any]:
    """Submit a harmless job that cannot start, and try edits of it; those that changed something."""
    result = submit(schedd, {"arguments": '"-c true"', "requirements": "False"})
    job = f"{result.cluster()}.0"
    changed = {}
    for name, value in json.loads(wanted):
        before = schedd.query(constraint_of(job))[0].get(name)
        try:
            schedd.edit(job, name, value)
        except htcondor2.HTCondorException:
            continue
        after = schedd.query(constraint_of(job))[0].get(name)
        if str(before) != str(after):
            changed[name] = str(after)
    return changed


def constraint_of(job: str) -> str:
    return f"ClusterId == {int(float(job))}"


def touch(schedd: htcondor2.Schedd, job: str) -> dict[str, Any]:
    """Do to somebody's job whatever can be done; what was refused."""
    said = {}
    for action in ("Remove", "RemoveX", "Hold", "Release", "Suspend", "Vacate", "VacateFast"):
        try:
            found = schedd.act(getattr(htcondor2.JobAction, action), constraint_of(job), reason="mine now")
            said[action] = found["TotalSuccess"]
        except htcondor2.HTCondorException as error:
            said[action] = str(error)
    try:
        schedd.edit(job, "AFCluster", '"x"')
        said["edit"] = 1
    except htcondor2.HTCondorException as error:
        said["edit"] = str(error)
    try:
        schedd.retrieve(constraint_of(job))
        said["retrieve"] = sorted(path.name for path in Path().iterdir() if path.name not in ("token", "ca.pem"))
    except htcondor2.HTCondorException as error:
        said["retrieve"] = str(error)
    return said


def command(schedd: htcondor2.Schedd, name: str) -> dict[str, Any]:
    """An administrator's command to the access point."""
    (ad,) = htcondor2.Collector().query(htcondor2.AdType.Schedd)
    htcondor2.send_command(ad, getattr(htcondor2.DaemonCommand, name))
    return {"sent": name}


def advertise(schedd: htcondor2.Schedd, kind: str, site: str = '"T2_A"', name: str = "evil") -> dict[str, Any]:
    """Offer a slot, or be an access point, that is not there."""
    import classad2

    ad = classad2.ClassAd({"MyType": "Machine", "Name": f"slot1@{name}", "Machine": name, "MyAddress": "<127.0.0.1:9>"})
    ad["SiteName"] = classad2.ExprTree(site)
    htcondor2.Collector().advertise([ad], kind, True)
    return {"advertised": kind}


def keep_tokens(schedd: htcondor2.Schedd, name: str, wanted: str) -> dict[str, Any]:
    """Leave tokens with the access point's condor_credd, or take some away, under these names of users and services; which worked."""
    from af_hub.condor.jobtoken import credd_address

    ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, name)
    ad["MyAddress"] = credd_address(ad["MyAddress"])
    credd, kind = htcondor2.Credd(ad), htcondor2.CredType.OAuth
    done = []
    for what, user, service in json.loads(wanted):
        try:
            if what == "add":
                credd.add_user_service_cred(kind, b"evil", service, user=user)
            else:
                credd.delete_user_service_cred(kind, service, user=user)
        except Exception:  # the library raises this and that
            continue
        done.append([what, user, service])
    return {"done": done}


def whoami(schedd: htcondor2.Schedd, right: str) -> dict[str, Any]:
    """What the access point says who one is."""
    ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, sys.argv[2])
    found = htcondor2.ping(ad, right)
    return {"name": found.get("MyRemoteUserName"), "allowed": str(found.get("AuthorizationSucceeded"))}


def main() -> None:
    name, schedd, *arguments = sys.argv[1:]
    try:
        ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, schedd)
        found = globals()[name](htcondor2.Schedd(ad), *arguments)
    except htcondor2.HTCondorException as error:
        found = {"refused": str(error)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
