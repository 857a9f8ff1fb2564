"""Which rules speak of a group or of a person, so that a decision need not go through all of them.

A facility may have thousands of groups, and somebody is in a few. What is looked up here depends on the groups of one person and the
rules that speak of them, never on the length of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from af_hub.policy.issuers import Issuer
    from af_hub.policy.model import Policy
    from af_hub.policy.rules import Rule

NAMED = 5
"""How many groups a refusal names."""


@dataclass(frozen=True)
class Doors:
    """Groups of one issuer that may log in: all in the order of the file, and by the experiment (first part) that they belong to."""

    groups: tuple[str, ...]
    by_experiment: Mapping[str, tuple[str, ...]]

    def named(self, groups: Iterable[str]) -> tuple[str, ...]:
        """The few that somebody in ``groups`` is told of: those of the same experiment first."""
        if len(self.groups) <= NAMED:
            return self.groups
        near = (door for group in groups for door in self.by_experiment.get(experiment(group), ()))
        return tuple(list(dict.fromkeys([*_first(near), *self.groups[:NAMED]]))[:NAMED])


@dataclass(frozen=True)
class Index:
    """Made once for each policy.

    Parameters
    ----------
    order
        All overrides, then all rules: earlier ones win.
    by_group, by_person
        Places in ``order``.
    foreign
        By issuer: how groups begin that its prefix would let it say, but that are another issuer's, with a slash behind.
    """

    order: tuple[Rule, ...]
    by_group: Mapping[str, tuple[int, ...]]
    by_person: Mapping[str, tuple[int, ...]]
    issuers: Mapping[str, Issuer]
    doors: Mapping[str, Doors]
    foreign: Mapping[str, tuple[str, ...]]

    def may_say(self, issuer: Issuer, group: str) -> bool:
        """Whether somebody of this issuer can be in the group, which is written as in rules."""
        return group.startswith(f"{issuer.groups_prefix}/") and not begins(group, self.foreign[issuer.issuer])

    def speaking_of(self, username: str, groups: Iterable[str]) -> list[Rule]:
        """Rules and overrides for this person in order, whether or not in force."""
        places = set(self.by_person.get(username, ()))
        places.update(place for group in groups for place in self.by_group.get(group, ()))
        return [self.order[place] for place in sorted(places)]


def make_index(policy: Policy) -> Index:
    """The index of a policy."""
    order: tuple[Rule, ...] = (*policy.overrides, *policy.rules)
    by_group, by_person = defaultdict(list), defaultdict(list)
    for place, rule in enumerate(order):
        for group in dict.fromkeys(rule.groups):
            by_group[group].append(place)
    for place, override in enumerate(policy.overrides):
        for person in dict.fromkeys(override.people):
            by_person[person].append(place)
    foreign = {issuer.issuer: _foreign(policy, issuer) for issuer in policy.issuers}
    return Index(
        order,
        {group: tuple(places) for group, places in by_group.items()},
        {person: tuple(places) for person, places in by_person.items()},
        {issuer.issuer: issuer for issuer in policy.issuers},
        {
            issuer.issuer: _doors(policy, f"{issuer.groups_prefix}/", foreign[issuer.issuer])
            for issuer in policy.issuers
        },
        foreign,
    )


def experiment(group: str) -> str:
    """The first part of a group's path."""
    return group[1:].partition("/")[0]


def begins(group: str, prefixes: tuple[str, ...]) -> bool:
    """Whether the group is at or below one of these, which have a slash behind."""
    return f"{group}/".startswith(prefixes)


def _foreign(policy: Policy, issuer: Issuer) -> tuple[str, ...]:
    """Prefixes of others below its own: only there could it say a group of theirs. Of two that hold a group the longer counts."""
    prefixes = {f"{one.groups_prefix}/" for one in policy.issuers}
    own = f"{issuer.groups_prefix}/"
    return tuple(sorted(prefix for prefix in prefixes if prefix != own and prefix.startswith(own)))


def _doors(policy: Policy, prefix: str, foreign: tuple[str, ...]) -> Doors:
    found = (group for rule in policy.rules if rule.login for group in rule.groups)
    groups = tuple(dict.fromkeys(one for one in found if one.startswith(prefix) and not begins(one, foreign)))
    by_experiment = defaultdict(list)
    for group in groups:
        by_experiment[experiment(group)].append(group)
    return Doors(groups, {name: tuple(found) for name, found in by_experiment.items()})


def _first(groups: Iterator[str]) -> list[str]:
    """The first few different ones."""
    found: dict[str, None] = {}
    for group in groups:
        found[group] = None
        if len(found) == NAMED:
            break
    return list(found)
