"""What an administrator is told of a ``facility.yaml`` before it is put in place: ``af-hub check policy``.

Mistakes are what keeps a file from being in force anywhere (:mod:`af_hub.policy.load` finds them); doubts are what it says and hardly
means: an override that is over, a size that nobody gets, a login without anything to start.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from af_hub.errors import ImageRefused, PolicyError
from af_hub.iam.scopes import holds, readable_paths
from af_hub.policy.accounts import may_be_account
from af_hub.policy.explain import NOT_IN_FORCE, count
from af_hub.policy.issuers import CondorToken, StorageToken, Tokens
from af_hub.policy.load import examine
from af_hub.policy.model import Policy
from af_hub.policy.rules import Override, Rule
from af_hub.policy.signed import strangers
from af_hub.policy.text import Mistake, Place
from af_hub.registry.patterns import opens_all_of_anybody, registry_of
from af_hub.registry.reference import Reference, read_reference


@dataclass(frozen=True)
class Report:
    """What was found in a file.

    Parameters
    ----------
    mistakes, doubts
        Sentences with their lines, in the order of the file.
    unset
        Variables in it that the environment of the check does not have; those who will read the file must.
    """

    mistakes: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "good": not self.mistakes,
            "mistakes": list(self.mistakes),
            "doubts": list(self.doubts),
            "unset": list(self.unset),
        }

    def in_words(self, name: str) -> str:
        """For people."""
        if self.mistakes:
            return "\n".join([*self.mistakes, f"{count(len(self.mistakes), 'mistake')}. {NOT_IN_FORCE}"])
        said = f"{name} is right" + (f", with {count(len(self.doubts), 'doubt')}" if self.doubts else "")
        unset = [f"Who reads it must have {', '.join(self.unset)} in the environment."] if self.unset else []
        return "\n".join([*self.doubts, f"{said}.", *unset])


def check_policy(content: bytes | str, name: str, environ: Mapping[str, str], now: float) -> Report:
    """Everything that is wrong, and when nothing is, everything that is doubtful at the instant ``now``.

    A ``${NAME}`` that ``environ`` does not have is no mistake: the process that will read the file has another environment.
    """
    try:
        found = examine(content, name, environ, lenient=True)
    except PolicyError as error:
        return Report((str(error),))
    if found.policy is None:
        return Report(found.mistakes)
    return Report((), found.told(doubts(found.policy, now)), found.unset)


def doubts(policy: Policy, now: float) -> Iterator[Mistake]:
    """What is allowed, and hardly meant."""
    yield from _over(policy, now)
    gifts = [*_placed("overrides", policy.overrides), *_placed("rules", policy.rules)]
    yield from _unused(policy, [rule for _, rule in gifts])
    for place, rule in gifts:
        yield from _of_one(place, rule)
    yield from _passing_accounts(policy)
    yield from _volumes_in_one_place(policy)
    yield from _containers(policy)
    yield from _registries(policy, gifts)
    yield from _signed_in_clear(policy)
    yield from _too_much_for_jobs(policy)
    yield from _closed_data(policy)
    yield from _data_of_strangers(policy)
    yield from _capitals(gifts)
    yield from _out_of_reach(policy, gifts)


def _placed(kind: str, rules: list[Rule] | list[Override]) -> list[tuple[Place, Rule]]:
    return [((kind, number), rule) for number, rule in enumerate(rules)]


def _over(policy: Policy, now: float) -> Iterator[Mistake]:
    for number, override in enumerate(policy.overrides):
        if override.until.timestamp() <= now:
            sentence = (
                f"{override.name!r} ended at {override.until.isoformat()} and gives nothing any more; take it out"
            )
            yield Mistake(("overrides", number), sentence)
    for number, announcement in enumerate(policy.announcements):
        if announcement.until.timestamp() <= now:
            yield Mistake(("announcements", number), f"ended at {announcement.until.isoformat()}; take it out")


def _unused(policy: Policy, rules: list[Rule]) -> Iterator[Mistake]:
    for kind in ("images", "sizes", "sites", "volumes"):
        given = {name for rule in rules for name in getattr(rule, kind)}
        for name in getattr(policy, kind):
            if name not in given:
                yield Mistake((kind, name), "no rule gives it to anybody; name it in a rule, or take it out")
    charged = {rule.condor.accounting_group for rule in rules if rule.condor}
    for name in policy.accounting_groups:
        if not any(group == name or group.startswith(f"{name}.") for group in charged):
            yield Mistake(("accounting_groups", name), "no rule charges it; name it in a rule, or take it out")
    for kind, key in (("pools", "pool"), ("caches", "cache")):
        for name in getattr(policy, kind):
            if not any(getattr(site, key) == name for site in policy.sites.values()):
                yield Mistake((kind, name), "no site names it; name it in a site, or take it out")


def _of_one(place: Place, rule: Rule) -> Iterator[Mistake]:
    images = rule.images or rule.own_images
    if rule.login and not (images and rule.sizes):
        lacking = "images" if not images else "sizes"
        sentence = f"it lets people in and gives no {lacking}; whom no other rule gives any cannot start a session"
        yield Mistake(place, sentence)
    if rule.sites and not (rule.condor and rule.limits):
        lacking = "HTCondor account" if not rule.condor else "limits"
        yield Mistake(
            (*place, "sites"),
            f"it opens sites and gives no {lacking}; whom no other rule gives any has no Dask clusters",
        )
    if rule.condor and not may_be_account(rule.condor.account.replace("{username}", "ada")):
        sentence = f"found {rule.condor.account!r}, which is HTCondor's own or no account of a person, so nobody is given it; write another"
        yield Mistake((*place, "condor", "account"), sentence)


def _passing_accounts(policy: Policy) -> Iterator[Mistake]:
    """Accounts that only an override gives: when it ends, nobody can change the jobs that were submitted with them."""
    lasting = {rule.condor.account for rule in policy.rules if rule.condor}
    for number, override in enumerate(policy.overrides):
        if override.condor and override.condor.account not in lasting:
            yield Mistake(
                ("overrides", number, "condor"),
                f"no rule gives the account {override.condor.account!r}: when this ends, nobody can change the jobs that have it; "
                "give the account that a rule gives these people, if there is one",
            )


def _volumes_in_one_place(policy: Policy) -> Iterator[Mistake]:
    """What keeps people from a session who have both of two volumes, or the one that is inside another."""
    first: dict[str, str] = {}
    for name, volume in policy.volumes.items():
        if (other := first.setdefault(volume.path, name)) != name:
            sentence = f"found `{volume.path}` as in volumes.{other}: whom rules give both, has no session; is nobody in the groups of both?"
            yield Mistake(("volumes", name, "path"), sentence)
    for name, volume in policy.volumes.items():
        around = [one for one in policy.volumes.values() if volume.path.startswith(f"{one.path}/") and one.read_only]
        for outer in around:
            sentence = f"it is inside `{outer.path}`, where nothing can be made: it needs an empty folder there, or a path of its own"
            yield Mistake(("volumes", name, "path"), sentence)


def _containers(policy: Policy) -> Iterator[Mistake]:
    """Names of container images that no pod could be started from."""
    for name, image in policy.images.items():
        try:
            if image.container:
                read_reference(image.container)
        except ImageRefused as wrong:
            yield Mistake(("images", name, "container"), f"no pod can have it: {wrong}")


def _registries(policy: Policy, gifts: list[tuple[Place, Rule]]) -> Iterator[Mistake]:
    """Registries that nobody asks, passwords in the clear, and patterns that open what anybody makes."""
    asked = {one.registry for image in policy.images.values() for one in _reference(image.container)}
    for place, rule in gifts:
        for index, pattern in enumerate(rule.own_images):
            asked.add(registry_of(pattern))
            if opens_all_of_anybody(pattern):
                sentence = f"found {pattern!r:.80}: anybody can put an image into that registry, and this opens all of them; is it meant?"
                yield Mistake((*place, "own_images", index), sentence)
    for host, registry in policy.registries.items():
        if host not in asked:
            sentence = "no image of `images` and no pattern of `own_images` is about it; take it out, or look at how it is written there"
            yield Mistake(("registries", host), sentence)
        if registry.credentials_file and (registry.address or "").startswith("http:"):
            sentence = "found an address without TLS: whoever is between reads the password of `credentials_file`"
            yield Mistake(("registries", host, "address"), sentence)


def _reference(container: str) -> list[Reference]:
    try:
        return [read_reference(container)] if container else []
    except ImageRefused:
        return []


def _signed_in_clear(policy: Policy) -> Iterator[Mistake]:
    """Whoever verifies a token asks its issuer for keys: without TLS anybody between could give others, so nobody asks that way."""
    purposes = [one for issuer in policy.issuers for one in _purposes(policy, issuer.issuer)]
    if policy.facility.hub.startswith("http:") and any(one.by == "hub" for one in purposes):
        yield Mistake(
            ("facility", "hub"),
            "found an address without TLS, and the hub signs tokens: HTCondor and XRootD take those of issuers at https:// only",
        )


def _too_much_for_jobs(policy: Policy) -> Iterator[Mistake]:
    """Tokens for storage lie on worker nodes, where those of the pool must not."""
    holders: list[tuple[Place, Tokens | None]] = [((), policy.tokens)]
    holders += [(("issuers", number), issuer.tokens) for number, issuer in enumerate(policy.issuers)]
    for place, tokens in holders:
        for index, scope in enumerate(tokens.storage.scopes if tokens and tokens.storage else []):
            if scope.startswith(("compute.", "condor:")):
                sentence = f"found `{scope}` in a token that lies on every worker node: whoever reads it there can submit jobs; take it out"
                yield Mistake((*place, "tokens", "storage", "scopes", index), sentence)


def _closed_data(policy: Policy) -> Iterator[Mistake]:
    """Data that no token opens which the hub asks for."""
    for number, issuer in enumerate(policy.issuers):
        tokens = policy.tokens_of(issuer.issuer)
        for who, purpose in (("sessions", tokens.session), ("worker nodes", tokens.storage)):
            folders = readable_paths(purpose.scopes) if purpose else []
            for path in issuer.data_paths if purpose else []:
                if not any(holds(folder, path) or holds(path, folder) for folder in folders):
                    sentence = f"no token of {who} opens `{path}`, since none of their scopes is `storage.read` of it; add one to `tokens`"
                    yield Mistake(("issuers", number, "data_paths"), sentence)


def _data_of_strangers(policy: Policy) -> Iterator[Mistake]:
    """Data that stay shut to the hub's tokens, since those of another experiment's people would open them, too."""
    for issuer, path, other in strangers(policy):
        yield Mistake(
            ("issuers", policy.issuers.index(issuer), "data_paths"),
            f"`{path}` is not opened by tokens that the hub signs, since those for people of {other.label} would open it, too; give the "
            f"issuer {other.name} `tokens: {{storage: {{scopes: […]}}}}` with its own folders only",
        )


def _purposes(policy: Policy, issuer: str) -> list[CondorToken | StorageToken]:
    tokens = policy.tokens_of(issuer)
    return [tokens.condor, *([tokens.storage] if tokens.storage else [])]


def _capitals(gifts: list[tuple[Place, Rule]]) -> Iterator[Mistake]:
    """Groups that differ in capitals only: two to an IAM, one to whoever typed them."""
    first: dict[str, str] = {}
    for place, rule in gifts:
        for index, group in enumerate(rule.groups):
            other = first.setdefault(group.casefold(), group)
            if other != group:
                sentence = f"found `{group}` beside `{other}`: capitals make another group; is it meant?"
                yield Mistake((*place, "groups", index), sentence)


def _out_of_reach(policy: Policy, gifts: list[tuple[Place, Rule]]) -> Iterator[Mistake]:
    """Groups that no issuer can say: each has a prefix, or the group is that prefix itself."""
    prefixes = tuple(f"{issuer.groups_prefix}/" for issuer in policy.issuers)
    for place, rule in gifts:
        for index, group in enumerate(rule.groups):
            if not any(policy.index.may_say(issuer, group) for issuer in policy.issuers):
                wanted = "name a group below it" if f"{group}/" in prefixes else "write the prefix before it"
                sentence = (
                    f"found `{group}`, which nobody can be in: groups of the issuers begin with {', '.join(sorted(set(prefixes)))}; "
                    f"{wanted}"
                )
                yield Mistake((*place, "groups", index), sentence)
