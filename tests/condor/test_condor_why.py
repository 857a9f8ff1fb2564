"""HTCondor's messages and ads, as seen on 23.9, in words."""

import warnings
from typing import Any

import pytest

from af_hub.condor.operation import being_warned
from af_hub.condor.why import HELD, TEXT_LENGTH, Ending, held_because, hung_up, read_ending, shorten, why_failed

DENIED = (
    'Failed to connect to schedd, errmsg=SECMAN:2010:Received "DENIED" from server for user '
    "u-cms-cms-analyst@af-hub.test using method SCITOKENS."
)
CLOSED = "Failed to fetch ads from schedd, errmsg=SECMAN:2011:Connection closed during command authorization."
REFUSED = "Failed to connect to schedd, errmsg=CEDAR:6001:Failed to connect to <127.0.0.1:44697?addrs=127.0.0.1-44697>"
UNSAID = "Failed communication with collector."


@pytest.mark.parametrize(
    "message, reachable, kind, words",
    [
        pytest.param(
            DENIED, True, "refused", "knows you as u-cms-cms-analyst and does not let you do that", id="ALLOW"
        ),
        pytest.param(CLOSED, True, "unavailable", "access point does not answer", id="schedd gone"),
        pytest.param(REFUSED, True, "unavailable", "access point does not answer", id="access point gone"),
        pytest.param(
            "errmsg=SCHEDD:1:Failed to end classad message.", True, "unavailable", "does not answer", id="cut off"
        ),
        pytest.param(UNSAID, False, "unavailable", "the HTCondor pool at cm:1 does not answer", id="nobody listens"),
        pytest.param(UNSAID, True, "refused", "did not accept the token", id="collector refuses"),
        pytest.param(
            "Unable to commit transaction, SCHEDD:2:No jobs on Fridays.",
            True,
            "refused",
            "the access point refused: No jobs on Fridays",
            id="submit requirement",
        ),
        pytest.param("errmsg=SCHEDD:2:add -spool|x", True, "refused", "refused: add -spool", id="the first of several"),
        pytest.param("failed to send file x", True, "refused", "refused: failed to send file x", id="anything else"),
    ],
)
def test_a_failed_call(message: str, reachable: bool, kind: str, words: str) -> None:
    found, sentence = why_failed(message, "cm:1", reachable)
    assert found == kind and words in sentence


def test_what_a_submit_warns_of() -> None:
    with being_warned() as told:
        for _ in range(2):  # Python shows the second of one place to nobody, unless asked
            warnings.warn(
                "Submit succeeded with warning: SCHEDD:0:No \x1b[2Jicsc.\nSCHEDD:3:You ask for much.", stacklevel=1
            )
    assert told == ["No [2Jicsc.", "You ask for much."] * 2


@pytest.mark.parametrize(
    "overheard, wanted",
    [
        (
            "11/21/26 12:27:20 SECMAN: no classad from server, failing\n"
            "11/21/26 12:27:20 ERROR: SECMAN:2011:Connection closed during command authorization.\n",
            True,
        ),
        ("11/21/26 12:27:20 ERROR: CEDAR:6001:Failed to connect to <127.0.0.1:1>\n", True),
        (
            "11/21/26 12:27:19 SECMAN: required authentication with collector localhost:36061 failed\n"
            "11/21/26 12:27:19 ERROR: AUTHENTICATE:1003:Failed to authenticate with any method\n",
            False,
        ),
        ("", False),
    ],
)
def test_whether_the_collector_was_there(overheard: str, wanted: bool) -> None:
    assert hung_up(overheard) is wanted


@pytest.mark.parametrize(
    "code, reason, sentence",
    [
        (3, "the job agent ended with status 3", "the job agent ended with status 3"),
        (1, "via condor_hold (by user root)", f"{HELD[1]} (HTCondor says: via condor_hold (by user root))"),
        (6, "Failed to execute '/x'.", f"{HELD[6]} (HTCondor says: Failed to execute '/x')"),
        (999, "", "no reason given"),
        (0, "two\nlines  here", "two lines here"),
    ],
)
def test_why_a_job_is_held(code: int, reason: str, sentence: str) -> None:
    assert held_because(code, reason) == sentence


@pytest.mark.parametrize(
    "ad, ending",
    [
        ({"JobStatus": 4, "ExitCode": 0}, Ending(True, "it ended by itself")),
        ({"JobStatus": 4, "ExitCode": 3}, Ending(False, "it ended with status 3")),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, Ending(False, "it was ended by signal 9")),
        ({"JobStatus": 3}, Ending(False, "it was removed from HTCondor's queue")),
        (
            {"JobStatus": 3, "RemoveReason": "via condor_rm (by user root)"},
            Ending(False, "it was removed from HTCondor's queue (via condor_rm (by user root))"),
        ),
    ],
)
def test_how_a_job_ended(ad: dict[str, Any], ending: Ending) -> None:
    assert read_ending(ad) == ending


def test_words_of_others_are_short() -> None:
    assert len(shorten("x" * 10_000)) == TEXT_LENGTH


@pytest.mark.parametrize("letters", ["\x1b[2J", "\r", "\x00", "\u202e", "\u2028", "\x9b"])
def test_a_jobs_words_do_nothing_to_a_terminal(letters: str) -> None:
    assert shorten(f"one{letters}two.") in ("one two", "one [2J" + "two")
    assert letters not in held_because(1, f"one{letters}two")
