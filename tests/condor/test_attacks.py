"""On real daemons: what somebody with a valid token, or with none, must not be able to do (facts of HTCondor's trust model)."""

import json
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from condor_client import Client

from af_hub.condor.ads import these_jobs
from af_hub.condor.mapping import Mapping
from af_hub.condor.pool import CondorPool
from af_hub.errors import Refused
from af_hub.testing.condor import RealPool

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("clean")]

JOB = (
    "executable = /bin/sleep\ntransfer_executable = False\narguments = 60\nshould_transfer_files = YES\nrequest_memory = 10MB\n"
    'request_disk = 1MB\n+AFCluster = "cccc"\nqueue\n'
)
MARK = "only the access point may read this"


@pytest.fixture
def secret(condor_pool: RealPool) -> Path:
    path = condor_pool.folder / "access-point/secret"
    path.write_text(MARK)
    return path


@pytest.mark.parametrize(
    "wanted, spool, words",
    [
        pytest.param({}, "no", "add -spool", id="not spooled"),
        pytest.param({"max_materialize": "1"}, "yes", "spool", id="late materialization"),
        pytest.param({"+WantIOProxy": "True"}, "yes", "WantRemoteUpdates", id="chirp"),
        pytest.param({"+DAGManNodesLog": '"/tmp/evil"'}, "yes", "DAGMan", id="log of DAGMan"),
        pytest.param({"universe": "local"}, "yes", "vanilla", id="local universe"),
        pytest.param({"universe": "scheduler"}, "yes", "vanilla", id="scheduler universe"),
        pytest.param({"My.JobUniverse": "12"}, "yes", "", id="universe by attribute"),
        pytest.param({"+Owner": '"u-cms-cms-colleague"'}, "yes", "owner", id="another's name"),
        pytest.param(
            {"+OAuthServicesNeeded": '"../u-cms-cms-colleague/iam"'}, "yes", "called iam", id="another's token"
        ),
    ],
)
def test_submits_that_are_refused(
    client: Callable[..., Client], wanted: dict[str, str], spool: str, words: str
) -> None:
    found = client("cms-analyst").attack("submit_only", json.dumps(wanted), spool)
    assert words in found["refused"]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"+AcctGroupUser": '"u-cms-cms-colleague"'}, id="accounting user"),
        pytest.param({"+AccountingGroup": '"atlas.u-cms-cms-colleague"'}, id="accounting group"),
        pytest.param({"+User": '"u-cms-cms-colleague@af-hub.test"'}, id="user"),
        pytest.param({"+AuthTokenSubject": '"another"'}, id="subject of the token"),
    ],
)
def test_submits_that_claim_to_be_another(client: Callable[..., Client], wanted: dict[str, str]) -> None:
    """Refused, or what was claimed is not in the ad."""
    found = client("cms-analyst").attack("submit_only", json.dumps(wanted))
    if "refused" not in found:
        assert "colleague" not in json.dumps(found) and found["AuthTokenSubject"] != "another"
        assert found["AccountingGroup"] == "cms.itcms.u-cms-cms-analyst"


@pytest.mark.parametrize("first", ['"iam"', "undefined"])
async def test_what_asks_for_a_token_is_no_expression(
    client: Callable[..., Client], condor_pool: RealPool, first: str
) -> None:
    """It would be another one when the token is given."""
    wish = f'ifThenElse(JobStatus == 5, {first}, "../u-cms-cms-colleague/iam")'
    ad = client("cms-analyst").attack("submit_only", json.dumps({"+OAuthServicesNeeded": wish}))
    job = f"{ad['ClusterId']}.{ad['ProcId']}"
    assert condor_pool.tool("condor_q", "-all", job, "-af:r", "OAuthServicesNeeded").strip() == first


@pytest.mark.parametrize(
    "wanted", [{"notification": "Always", "notify_user": "victim@example.org"}, {"My.JobNotification": "1"}]
)
def test_the_access_point_sends_no_mail(client: Callable[..., Client], wanted: dict[str, str]) -> None:
    ad = client("cms-analyst").attack("submit_only", json.dumps(wanted))
    assert ad["JobNotification"] == 0


def test_a_job_that_calls_itself_anothers_shows_whose_it_is(client: Callable[..., Client]) -> None:
    """The controller goes by that: the id of a Dask cluster is no secret."""
    lies = {"+AFCluster": f'"{"c" * 32}"', "+AFRole": '"scheduler"', "+Owner_": '"u-cms-cms-analyst"'}
    ad = client("cms-colleague").attack("submit_only", json.dumps(lies))
    assert (ad["AFCluster"], ad["Owner"]) == ("c" * 32, "u-cms-cms-colleague")


NONSENSE = [
    b"+AFSays = {[a = 1]}",
    b"+AFSays = {foo}",
    b'+AFSays = "caf\xe9"',
    b'+AFSays = {"caf\xe9"}',
    b"+AFWorker = {[a = 1]}",
    b"+NumJobStarts = 1.0E999",
    b'+EnteredCurrentStatus = "x"',
    b'+AFSays = ifThenElse(true, "", "' + b"x" * 500_000 + b'")',
    b'+ExitCode = "' + b"x" * 500_000 + b'"',
]


async def test_nonsense_in_an_ad_hides_nobody_elses_jobs(
    condor_pool: RealPool, client: Callable[..., Client], pool: CondorPool, token: Callable[..., str], tmp_path: Path
) -> None:
    """One look at the queue is for everybody: a job that cannot be read must not end it, nor fill it."""
    ours = JOB.replace('"cccc"', f'"{"c" * 32}"\n+AFRole = "scheduler"')
    (job,) = await pool.submit(token("cms-analyst"), ours, {})
    description = tmp_path / "nonsense.sub"
    plain = f'executable = /bin/sh\nrequirements = False\n+AFCluster = "{"b" * 32}"\n+AFRole = "worker"\n'
    description.write_bytes(b"".join(plain.encode() + line + b"\nqueue\n" for line in NONSENSE))
    done = client("icsc-analyst").tool("condor_submit", "-spool", "-name", condor_pool.schedd, str(description))
    assert f"{len(NONSENSE)} job(s) submitted" in done.stdout, done.stdout + done.stderr
    found = await pool.jobs(condor_pool.reader_token)
    assert job in [one.id for one in found]
    assert len(str(found)) < 10_000


@pytest.mark.parametrize("spool", ["yes", "no"])
@pytest.mark.parametrize("name", ["TransferInput", "In", "Cmd", "Iwd", "X509UserProxy"])
def test_files_of_the_access_point_are_not_read(
    client: Callable[..., Client], secret: Path, name: str, spool: str
) -> None:
    value = secret.parent if name == "Iwd" else secret
    wanted = {f"My.{name}": f'"{value}"', "My.TransferIn": "True", "My.TransferExecutable": "True"}
    if name == "Iwd":
        wanted["My.TransferInput"] = '"secret"'
    found = client("cms-analyst").attack("submit_with", json.dumps(wanted), spool)
    assert MARK not in json.dumps(found)
    if (name, spool) == ("TransferInput", "yes"):
        assert "decoy" in found["said"], "the attacker's own file of that name should have been sent"
    if spool == "no":
        assert "add -spool" in found["refused"]


@pytest.mark.parametrize("name", ["Out", "Err", "UserLog", "DAGManNodesLog", "TransferOutputRemaps"])
def test_files_of_the_access_point_are_not_written(
    client: Callable[..., Client], condor_pool: RealPool, name: str
) -> None:
    target = condor_pool.folder / "access-point" / f"evil-{name}"
    value = f"new={target}" if name == "TransferOutputRemaps" else target
    wanted = {f"My.{name}": f'"{value}"', "My.TransferOutput": '"new"', "arguments": "\"-c 'echo x | tee new'\""}
    client("cms-analyst").attack("submit_with", json.dumps(wanted))
    assert not target.exists()


EDITS = [
    ("TransferInput", '"/etc/passwd"'),
    ("In", '"/etc/passwd"'),
    ("Iwd", '"/etc"'),
    ("Cmd", '"/bin/id"'),
    ("Out", '"/tmp/evil"'),
    ("Err", '"/tmp/evil"'),
    ("UserLog", '"/tmp/evil"'),
    ("DAGManNodesLog", '"/tmp/evil"'),
    ("X509UserProxy", '"/etc/passwd"'),
    ("TransferOutput", '"/etc/passwd"'),
    ("TransferOutputRemaps", '"a=/tmp/evil"'),
    ("TransferExecutable", "True"),
    ("WantIOProxy", "True"),
    ("JobUniverse", "12"),
    ("JobUniverse", "7"),
    ("AcctGroup", '"atlas"'),
    ("OAuthServicesNeeded", '"../u-cms-cms-colleague/iam"'),
    ("AcctGroupUser", '"u-cms-cms-colleague"'),
    ("AccountingGroup", '"atlas.u-cms-cms-colleague"'),
    ("Owner", '"u-cms-cms-colleague"'),
    ("User", '"u-cms-cms-colleague@af-hub.test"'),
    ("AuthTokenSubject", '"another"'),
    ("AFCluster", '"another"'),
    ("AFRole", '"worker"'),
    ("JobNotification", "1"),
]


def test_edits_that_are_refused(client: Callable[..., Client]) -> None:
    """And the schedd is still there: in 23.x an edit of JobUniverse ended it."""
    ada = client("cms-analyst")
    assert ada.attack("edit", json.dumps([*EDITS, ("JobPrio", "7")])) == {"JobPrio": "7"}
    assert ada.attack("whoami", "WRITE")["name"] == "u-cms-cms-analyst@af-hub.test"


async def test_jobs_of_others_cannot_be_touched(
    condor_pool: RealPool, client: Callable[..., Client], pool: CondorPool, token: Callable[..., str]
) -> None:
    (job,) = await pool.submit(token("cms-analyst"), JOB, {})
    found = client("cms-colleague").attack("touch", job)
    assert found.pop("retrieve") in ([], "") or "refused" in str(found), found
    assert all(value == 0 or isinstance(value, str) for value in found.values()), found
    (ad,) = await pool.query(condor_pool.reader_token, these_jobs([job]), ["AFCluster", "JobStatus", "HoldReason"])
    assert ad["AFCluster"] == "cccc" and ad["JobStatus"] != 3 and ad.get("HoldReason") != "mine now"


@pytest.mark.parametrize("methods", ["FS", "FS, CLAIMTOBE, ANONYMOUS, SCITOKENS, IDTOKENS"])
@pytest.mark.parametrize(
    "argv",
    [
        ("condor_status", "-any"),
        ("condor_q", "-all", "-name", "schedd@af-hub.test"),
        ("condor_rm", "-all", "-name", "schedd@af-hub.test"),
        ("condor_off", "-all"),
        ("condor_reconfig", "-all"),
        ("condor_userprio", "-all"),
    ],
)
def test_without_a_token_nothing_is_done(
    condor_pool: RealPool, client: Callable[..., Client], argv: tuple[str, ...], methods: str
) -> None:
    """The operating system's user of these daemons is nobody to them."""
    nobody = client(SEC_CLIENT_AUTHENTICATION_METHODS=methods)
    done = nobody.tool(*argv)
    assert done.returncode != 0 and "slot1@" not in done.stdout, done.stdout
    assert "slot1@t2-a" in condor_pool.tool("condor_status")


@pytest.mark.parametrize("daemon", ["schedd", "master"])
@pytest.mark.parametrize("tool", ["condor_off", "condor_reconfig", "condor_restart"])
def test_without_a_token_nobody_administers_by_address(
    condor_pool: RealPool, client: Callable[..., Client], tool: str, daemon: str
) -> None:
    address = next((condor_pool.folder / "access-point").glob(f"*/.{daemon}_address")).read_text().split("\n")[0]
    for somebody in (client(SEC_CLIENT_AUTHENTICATION_METHODS="FS"), client("facility-admin")):
        done = somebody.tool(tool, "-addr", address, "-daemon", daemon)
        assert done.returncode != 0, done.stdout
    assert "slot1@t2-a" in condor_pool.tool("condor_status")


@pytest.mark.parametrize("name", ["OffFast", "OffGraceful", "Reconfig", "Restart", "DaemonsOff", "SetPeacefulShutdown"])
def test_a_persons_token_gives_no_administration(
    condor_pool: RealPool, client: Callable[..., Client], name: str
) -> None:
    """Not even that of somebody whom the policy calls an admin."""
    assert "refused" in client("facility-admin").attack("command", name)
    assert client("facility-admin").attack("whoami", "ADMINISTRATOR").get("allowed") != "True"
    assert client("cms-analyst").attack("whoami", "WRITE")["name"]


@pytest.mark.parametrize("kind", ["UPDATE_STARTD_AD", "UPDATE_SCHEDD_AD", "UPDATE_MASTER_AD", "UPDATE_AD_GENERIC"])
def test_nobody_offers_slots_with_a_persons_token(
    condor_pool: RealPool, client: Callable[..., Client], kind: str
) -> None:
    client("cms-analyst").attack("advertise", kind)
    assert "evil" not in condor_pool.tool("condor_status", "-any", "-af", "MyType", "Name")


def test_short_token_does_not_become_a_long_one(client: Callable[..., Client]) -> None:
    ada = client("cms-analyst")
    for argv in (
        ("condor_token_fetch", "-name", "schedd@af-hub.test", "-type", "SCHEDD"),
        ("condor_token_fetch",),
        ("condor_token_request", "-identity", "u-cms-cms-analyst@af-hub.test"),
    ):
        done = ada.tool(*argv)
        assert done.returncode != 0 and "eyJ" not in done.stdout, done.stdout


def pool_client(client: Callable[..., Client], tokens: Path, folder: Path) -> Client:
    """Somebody with tokens of the pool, in a place of his own."""
    (folder / "tokens").mkdir(mode=0o700)
    (folder / "tokens/pool").write_bytes(tokens.read_bytes())
    (folder / "tokens/pool").chmod(0o600)
    return client(SEC_TOKEN_DIRECTORY=str(folder / "tokens"), SEC_CLIENT_AUTHENTICATION_METHODS="IDTOKENS")


def test_reader_only_reads(condor_pool: RealPool, client: Callable[..., Client], tmp_path: Path) -> None:
    reader = pool_client(client, condor_pool.reader_token, tmp_path)
    assert reader.attack("whoami", "READ")["name"] == "reader@af-hub.test"
    assert "refused" in reader.attack("submit_only", "{}")
    assert reader.attack("touch", "1.0")["Remove"] != 1
    assert reader.attack("whoami", "ADMINISTRATOR").get("allowed") != "True"


def test_a_sites_token_is_good_for_slots_only(
    condor_pool: RealPool, client: Callable[..., Client], tmp_path: Path
) -> None:
    site = pool_client(client, condor_pool.folder / "T2_A/etc/tokens.d/pool", tmp_path)
    assert "refused" in site.attack("submit_only", "{}")
    site.attack("advertise", "UPDATE_SCHEDD_AD")
    assert "evil" not in condor_pool.tool("condor_status", "-any", "-af", "MyType", "Name")


@pytest.mark.parametrize(
    "site, taken",
    [
        pytest.param('"T2_A"', True, id="its own"),
        pytest.param('"T2_B"', False, id="another"),
        pytest.param('ifThenElse(TARGET.Cmd is undefined, "T2_A", "T2_B")', False, id="another for jobs"),
        pytest.param("undefined", False, id="none"),
    ],
)
def test_a_site_offers_slots_as_itself_only(
    condor_pool: RealPool, client: Callable[..., Client], tmp_path: Path, site: str, taken: bool
) -> None:
    """A person chose the site that their keys go to."""
    evil, name = pool_client(client, condor_pool.folder / "T2_A/etc/tokens.d/pool", tmp_path), f"evil-{token_hex(4)}"
    evil.attack("advertise", "UPDATE_STARTD_AD", site, name)
    asked = condor_pool.tool("condor_config_val", "NEGOTIATOR_SLOT_CONSTRAINT", role="central-manager").strip()
    assert (name in condor_pool.tool("condor_status", "-constraint", asked, "-af", "Name")) is taken


async def test_account_without_accounting_group_is_told_so(
    condor_pool: RealPool, pool: CondorPool, token: Callable[..., str]
) -> None:
    table, good = condor_pool.mapping_table.read_text(), condor_pool.accounting_map.read_text()
    try:
        condor_pool.map_people(Mapping(table, "* somebody else\n", ()))
        with pytest.raises(Refused, match="gives the account u-cms-cms-analyst no accounting group"):
            await pool.submit(token("cms-analyst"), JOB, {})
    finally:
        condor_pool.map_people(Mapping(table, good, ()))


def test_secrets_lie_in_private_files(condor_pool: RealPool) -> None:
    assert condor_pool.folder.stat().st_mode & 0o777 == 0o700
    secrets: list[Any] = [condor_pool.reader_token, condor_pool.folder / "tls/tls.key"]
    secrets += [*condor_pool.folder.glob("*/etc/tokens.d/*"), *condor_pool.folder.glob("*/etc/passwords.d/*")]
    assert len(secrets) >= 8 and {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert not (condor_pool.folder / "access-point/etc/passwords.d/POOL").exists()
