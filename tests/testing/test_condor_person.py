"""What condor_ping says about somebody; whether it says so is tested with a real pool (docs/examples/another-hub)."""

import pytest

from af_hub.testing.condor_person import read_account

HEAD = "         Instruction Authentication Encryption Integrity Decision Identity\n"


@pytest.mark.parametrize(
    "table, account",
    [
        pytest.param(HEAD + "  WRITE  SCITOKENS  AES  AES  ALLOW u-cms-ada@af-hub.test\n", "u-cms-ada", id="allowed"),
        pytest.param(HEAD + "  WRITE  SCITOKENS  AES  AES  DENY u-cms-ada@af-hub.test\n", None, id="denied"),
        pytest.param(HEAD + "  WRITE  FAIL  FAIL  FAIL  FAIL  FAIL (use -verbose)\n", None, id="not authenticated"),
        pytest.param(HEAD + "  READ  SCITOKENS  AES  AES  ALLOW x@af-hub.test\n", None, id="another right"),
        pytest.param("", None, id="the pool does not let them ask"),
    ],
)
def test_table_of_condor_ping(table: str, account: str | None) -> None:
    assert read_account(table) == account
