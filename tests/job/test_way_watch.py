from dataclasses import dataclass, field

import pytest

from af_hub.job.watch import LOOK_SECONDS, QUIET_SECONDS, watch, worth_saying

DOWN = "it is down"
NO_WAY = "the job has no way to its users: it is down"
PATIENCE = 5
LONG = 20 * [DOWN]


@pytest.mark.parametrize(
    "trouble, seconds, words",
    [
        pytest.param("", 100, "", id="no trouble"),
        pytest.param(DOWN, QUIET_SECONDS - 0.1, "", id="just gone"),
        pytest.param(DOWN, QUIET_SECONDS, NO_WAY, id="gone for a while"),
    ],
)
def test_what_is_worth_saying(trouble, seconds, words):
    assert worth_saying(trouble, seconds) == words


class Over(Exception):
    """Nothing more happens."""


@dataclass
class Way:
    """A way whose trouble is another at each look, and the only clock that there is."""

    troubles: list[str]
    trouble: str = ""
    now: float = 1000.0
    said: list[str] = field(default_factory=list)

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        if not self.troubles:
            raise Over
        self.now += seconds
        self.trouble = self.troubles.pop(0)

    async def watched(self):
        """What :func:`watch` hands back; nothing when it has not given up by the end."""
        try:
            return await watch(self, PATIENCE, self.said.append, self.clock, self.sleep)
        except Over:
            return ""


@pytest.mark.parametrize(
    "troubles, given_up, said",
    [
        pytest.param(LONG, DOWN, [NO_WAY], id="never there"),
        pytest.param([DOWN, DOWN, "", *LONG], "", [NO_WAY], id="there once"),
        pytest.param(["", DOWN, DOWN, "", DOWN, DOWN, ""], "", [], id="back at once"),
        pytest.param(["", DOWN, DOWN, DOWN, "", ""], "", [NO_WAY, ""], id="taken back"),
        pytest.param(["", DOWN, DOWN, DOWN, "again"], "", [NO_WAY, NO_WAY.replace(DOWN, "again")], id="other trouble"),
    ],
)
async def test_what_is_said_of_a_way_and_when_it_is_given_up(troubles, given_up, said):
    way = Way(list(troubles))
    assert await way.watched() == given_up
    assert way.said == said
    if given_up:
        assert way.now == 1000 + PATIENCE * LOOK_SECONDS
