"""On real daemons: whatever somebody writes, the policy says who is charged; and they are told what to write instead.

With HTCondor's own tools, as people use them. All cases go to one pool.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from condor_client import Client

from af_hub.testing.condor import ACCESS, RealPool

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("clean")]

NAMES = ["AcctGroup", "AcctGroupUser", "AccountingGroup", "NiceUser"]
POLICYS = "cms.itcms u-cms-cms-analyst cms.itcms.u-cms-cms-analyst undefined"
JOB = (
    "executable = /bin/sleep\ntransfer_executable = False\narguments = 60\nrequirements = False\nrequest_memory = 10MB\n"
    "request_disk = 1MB\nshould_transfer_files = YES\n"
)
ADD_SPOOL = "This access point shares no files with you: add -spool to condor_submit"
SPOOL = ("condor_submit", "-spool", "-name")


@pytest.fixture
def submit(condor_pool: RealPool, client: Callable[..., Client]) -> Callable[..., tuple[int, str]]:
    """Submit as the analyst: exit status, and everything that the tool said."""
    ada = client("cms-analyst")

    def run(wish: str = "", tool: tuple[str, ...] = SPOOL, *more: str) -> tuple[int, str]:
        (ada.folder / "job.sub").write_text(f"{JOB}{wish}\nqueue\n")
        (ada.folder / "one.dag").write_text("JOB one job.sub\n")
        file = "one.dag" if "dag" in tool[0] else "job.sub"
        done = ada.tool(*tool, condor_pool.schedd, *more, file)
        return done.returncode, done.stdout + done.stderr

    return run


def charged(pool: RealPool) -> list[str]:
    return pool.tool("condor_q", "-allusers", "-af", *NAMES).splitlines()


def test_who_is_charged_is_the_policys_word(condor_pool: RealPool, submit: Callable[..., tuple[int, str]]) -> None:
    """The short form of all that is below."""
    status, said = submit("accounting_group = icsc\naccounting_group_user = u-icsc-icsc-analyst")
    assert status == 0 and "You asked to be charged to icsc; the facility's policy charges cms.itcms." in said
    assert charged(condor_pool) == [POLICYS]
    status, said = submit("", ("condor_submit", "-name"))
    assert status != 0 and ADD_SPOOL in said


@pytest.mark.long
@pytest.mark.parametrize("tool", [SPOOL, ("condor_submit", "-remote")], ids=["-spool", "-remote"])
@pytest.mark.parametrize(
    "wish, told",
    [
        pytest.param("", "", id="nothing"),
        pytest.param("accounting_group = cms.itcms", "", id="the right group"),
        pytest.param("accounting_group = atlas", "to atlas", id="a group that is not there"),
        pytest.param("accounting_group = icsc", "to icsc", id="another's group"),
        pytest.param("accounting_group = cms", "to cms", id="the group above"),
        pytest.param("accounting_group = CMS.ITCMS", "to CMS.ITCMS", id="the right group in capitals"),
        pytest.param("accounting_group_user = u-cms-cms-colleague", "", id="another's name"),
        pytest.param("accounting_group = icsc\naccounting_group_user = u-cms-cms-colleague", "to icsc", id="both"),
        pytest.param("nice_user = True", "to nice-user", id="nice"),
        pytest.param("+NiceUser = True", "", id="nice by attribute"),
        pytest.param('+ACCTGROUP = "atlas"', "to atlas", id="by attribute, in capitals"),
        pytest.param('+AcctGroup = strcat("at", "las")', "to atlas", id="by an expression"),
        pytest.param('+AccountingGroup = ifThenElse(true, "atlas.x", "y")', "", id="by an expression of both"),
        pytest.param("+AcctGroup = {1, 2}", "", id="nonsense"),
    ],
)
def test_whatever_is_wished(
    condor_pool: RealPool, submit: Callable[..., tuple[int, str]], wish: str, told: str, tool: tuple[str, ...]
) -> None:
    status, said = submit(wish, tool)
    assert status == 0, said
    assert charged(condor_pool) == [POLICYS]
    assert f"You asked to be charged {told};" in said if told else wish.startswith("+") or "You asked" not in said


@pytest.mark.long
def test_a_wish_on_the_command_line(condor_pool: RealPool, submit: Callable[..., tuple[int, str]]) -> None:
    status, said = submit("", SPOOL, "-append", "accounting_group = atlas")
    assert status == 0 and "to atlas;" in said and charged(condor_pool) == [POLICYS]


@pytest.mark.long
@pytest.mark.parametrize(
    "wish, tool, says",
    [
        pytest.param("", ("condor_submit", "-name"), ADD_SPOOL, id="not spooled"),
        pytest.param(
            "accounting_group = cms.itcms", ("condor_submit", "-name"), ADD_SPOOL, id="not spooled, right group"
        ),
        pytest.param("max_materialize = 1", SPOOL, "leave max_materialize and max_idle out", id="late materialization"),
        pytest.param("max_idle = 1", ("condor_submit", "-remote"), "leave max_materialize", id="late, by idle jobs"),
        pytest.param("", ("condor_submit_dag", "-f", "-remote"), "vanilla", id="DAGMan at the access point"),
    ],
)
def test_submits_that_cannot_be_charged_are_refused(
    condor_pool: RealPool, submit: Callable[..., tuple[int, str]], wish: str, tool: tuple[str, ...], says: str
) -> None:
    status, said = submit(wish, tool)
    assert status != 0 and says in said
    assert charged(condor_pool) == []


@pytest.mark.long
@pytest.mark.parametrize("which", [("{job}",), ("{job}.0",), ("-constraint", "ClusterId == {job}")])
def test_nothing_of_it_is_edited_later(
    condor_pool: RealPool, client: Callable[..., Client], submit: Callable[..., tuple[int, str]], which: tuple[str, ...]
) -> None:
    submit()
    job = condor_pool.tool("condor_q", "-allusers", "-af", "ClusterId").strip()
    words = [word.format(job=job) for word in which]
    for name, value in (
        ("AcctGroup", '"atlas"'),
        ("acctgroup", '"CMS.ITCMS"'),
        ("AcctGroup", "undefined"),
        ("AcctGroupUser", '"u-cms-cms-colleague"'),
        ("AccountingGroup", '"icsc.u-cms-cms-analyst"'),
        ("NiceUser", "True"),
    ):
        done = client("cms-analyst").tool("condor_qedit", "-name", condor_pool.schedd, *words, name, value)
        assert done.returncode != 0, (name, done.stdout)
    done = client("cms-analyst").tool("condor_qedit", "-name", condor_pool.schedd, *words, "JobPrio", "7")
    assert done.returncode == 0 and charged(condor_pool) == [POLICYS]


@pytest.fixture
def without_transform(condor_pool: RealPool) -> Iterator[None]:
    """An access point whose administrator took our transform out."""
    config = condor_pool.folder / ACCESS / "etc/condor_config"
    before = config.read_text()
    try:
        config.write_text(before + "JOB_TRANSFORM_NAMES = AFNoMail\n")
        condor_pool.reconfig()
        yield
    finally:
        config.write_text(before)
        condor_pool.reconfig()


@pytest.mark.long
@pytest.mark.usefixtures("without_transform")
@pytest.mark.parametrize(
    "group, user, taken",
    [
        ("cms.itcms", "u-cms-cms-analyst", True),
        ("CMS.ITCMS", "u-cms-cms-analyst", False),
        ("icsc", "u-cms-cms-analyst", False),
        ("cms.itcms", "u-cms-cms-colleague", False),
        ("", "u-cms-cms-analyst", False),
        ("", "", False),
    ],
)
def test_the_requirement_alone_lets_only_the_policys_word_in(
    submit: Callable[..., tuple[int, str]], group: str, user: str, taken: bool
) -> None:
    wishes = {"accounting_group": group, "accounting_group_user": user}
    status, said = submit("\n".join(f"{name} = {value}" for name, value in wishes.items() if value))
    assert (status == 0) is taken
    assert taken or "given by the facility's policy; leave accounting_group and accounting_group_user out" in said


def test_files_of_the_tools_stay_with_their_owner(condor_pool: RealPool) -> None:
    """Maps and settings are the watcher's: who writes them decides who is charged."""
    folder: Path = condor_pool.accounting_map.parent
    assert folder.stat().st_mode & 0o077 == 0
