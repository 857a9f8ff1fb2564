"""What somebody is told whom the policy does not give something: which group or agreement is missing, whom to ask, and where more stands.

Each kind of refusal has a page (:data:`PAGES`), which the hub serves, the documentation holds, and the sentence links to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from af_hub.iam.claims import Claims
from af_hub.policy.index import NAMED
from af_hub.policy.model import Policy
from af_hub.policy.rules import Override, Rule
from af_hub.policy.units import describe_instant as instant


@dataclass(frozen=True)
class Page:
    """What stands on the page of one kind of refusal; each text is one paragraph.

    Parameters
    ----------
    says
        How such a sentence reads.
    do
        What the person who got it can do.
    admin
        What the facility's administrators look at.
    """

    title: str
    says: str
    meaning: str
    do: str
    admin: str


PAGES = {
    "no-group": Page(
        "You are in none of the groups that may log in",
        "… is in none of the groups that may log in here",
        "The facility lets in members of certain groups of an experiment's IAM. The IAM has said which groups you are in, and none of "
        "those is among them. A group counts by its whole name: membership of /cms is not membership of /cms/itcms.",
        "Open the IAM's own page and look at your groups. If you have joined one since you logged in last, log in again. Otherwise ask "
        "for membership there of one of the groups that the sentence names, or write to the address in it.",
        "`af-hub explain USER` prints the groups that the IAM said last and the rules that match. `rules[].groups` in facility.yaml "
        "says who gets in. An IAM that says no groups at all was not asked for the scope wlcg.groups, or does not grant it to the "
        "hub's client.",
    ),
    "ended": Page(
        "You were let in for some time, and that time is over",
        "… was let in until …, which is over",
        "The facility let you in for some time only, as for a school or a campaign. Your files are where they were.",
        "If you still need to work here, write to the address in the sentence, and name what you were let in for, as the sentence does.",
        "The override stands in `overrides` of facility.yaml; give it a later `until`, or the person a group of a rule.",
    ),
    "not-yet": Page(
        "You will be let in later",
        "… will be let in from …",
        "The facility lets you in for some time that has not begun.",
        "Come back then. Nothing else is needed.",
        "The override stands in `overrides` of facility.yaml with its `from`.",
    ),
    "unknown-issuer": Page(
        "Your login comes from an IAM that this facility does not know",
        "… comes from …, which this facility does not know",
        "You are known from a login through an IAM that is no longer among those of the facility.",
        "Log in again through one of the IAMs that the login page offers. If yours is not there, write to the address in the sentence.",
        "`issuers` in facility.yaml must hold the address exactly as the tokens have it in `iss`, with or without its last slash.",
    ),
    "blocked": Page(
        "You are blocked at this facility",
        "… is blocked at this facility",
        "The administrators have shut this user name out, whatever groups it has.",
        "Write to the address in the sentence.",
        "`c.IAMAuthenticator.blocked_users` in the hub's configuration names who is shut out.",
    ),
    "name-taken": Page(
        "Your user name belongs to somebody else here",
        "The user name … belongs to somebody else at this facility, who had it before you",
        "The facility knows people by the user name that their IAM gives them, and the first who logs in with a name has it for good. "
        "Now somebody else's name is the same: in another IAM, or in the same one after an account was given up.",
        "Write to the address in the sentence, and say since when you have the name. Another user name at the IAM would do as well.",
        "The hub pins each name to issuer and subject (table `people` of its database), so that nobody gets the files and jobs of another. "
        "If it is the same person with a new account at the IAM, change that row while the hub is stopped.",
    ),
    "agreement": Page(
        "Rules of use wait for your signature",
        "… must be signed (…); then log in here again",
        "Your experiment's IAM gives no tokens to members who have not signed its acceptable use policy (AUP), or whose signature has "
        "run out; most IAMs want it again each year. Without tokens nothing here can act in your name.",
        "Follow the link in the sentence, or open the IAM's own page: it shows the text and a button to sign. Then log in here again.",
        "The IAM answers `invalid_grant` and speaks of the AUP (INDIGO IAM 1.8.1 and later). `agreements` in facility.yaml names where "
        "people of an issuer sign.",
    ),
    "no-account": Page(
        "Your groups give you no HTCondor account",
        "Your groups give you no HTCondor account …",
        "You may log in and work in a session. Dask clusters and batch jobs run under an account of the batch system, which other "
        "groups have.",
        "Ask for one of the groups that the sentence names, at the IAM or at the address in it.",
        "`rules[].condor` in facility.yaml gives accounts. A user name that could be no account gets none, and HTCondor's own names "
        "are given to nobody.",
    ),
    "no-clusters": Page(
        "Your groups give you no Dask clusters",
        "Your groups give you no Dask clusters …",
        "You may log in and work in a session; Dask clusters are for other groups.",
        "Ask for one of the groups that the sentence names, at the IAM or at the address in it.",
        "A rule must give `condor`, `limits` and `sites` for Dask clusters; `af-hub check policy` doubts a rule that gives only some of them.",
    ),
    "not-given": Page(
        "This image, size or site is for other groups",
        "… have it; open are: …",
        "What you chose exists, and your groups do not give it to you. It may be that an old page or a saved choice still named it.",
        "Choose one of those that the sentence says are open to you, or ask for a group that has it.",
        "`rules[].images`, `sizes` and `sites` in facility.yaml; `af-hub explain USER` lists what the person has and from which rule.",
    ),
    "image-name": Page(
        "This is no name of an image",
        "… is no name of an image: found …, wanted …",
        "The name of a container image is a registry, a path in it, and a tag or a digest, as in registry.example.org/group/image:tag. Without "
        "a tag it means the one called latest; without a registry, docker.io.",
        "Copy the name from the registry's page, without https:// in front and without spaces or line breaks. All letters but those of "
        "the tag are small.",
        "The grammar is that of the distribution project. Names under `images` in facility.yaml are read in the same way; `af-hub check policy` "
        "doubts one that is none.",
    ),
    "image-not-allowed": Page(
        "This image is not among those that you may type",
        "The image … is not one of those that you may type; those are: …",
        "Whoever chooses the image chooses what runs with your rights and your token. So the facility says for each group which images may be "
        "typed, by pattern, and the whole name in full is compared: registry, path, tag or digest.",
        "Choose an image of the list, or one that fits a pattern in the sentence. If your group keeps its images elsewhere, write to the "
        "address in it.",
        "`rules[].own_images` in facility.yaml; `af-hub explain USER` lists the patterns that somebody has and from which rule.",
    ),
    "image-missing": Page(
        "The registry does not have this image",
        "… is not there: … has no such image, or shows it to others only",
        "The facility asked the registry before it started anything, and the registry knows no image of this name and tag. Many registries "
        "say the same of private images to whoever may not see them.",
        "Look at the registry's page whether name and tag are written so, and whether the image has been pushed. If it is private, make it "
        "public, or write to the address in the sentence.",
        "The hub asks as anybody, or with `registries.HOST.credentials_file` of facility.yaml.",
    ),
    "image-unreadable": Page(
        "The registry does not show this image to the facility",
        "… does not show … to this facility",
        "The image may be there, but the registry wants a login that the facility does not have, or does not take the one that it has.",
        "Make the image public, or write to the address in the sentence.",
        "`registries.HOST.credentials_file` of facility.yaml names a file with user:password, mode 0600, for the hub. The nodes that pull "
        "need credentials of their own.",
    ),
    "registry-away": Page(
        "The registry of the image does not answer",
        "… does not answer …",
        "The facility asks the registry about an image before it starts a session. It got no answer, or none that can be understood. An image of "
        "the list starts all the same for as long as the facility remembers what the registry last said of it.",
        "Try again in some minutes, or choose another image.",
        "The log of the hub says what happened. `registries.HOST.address` and `ca_file` of facility.yaml say how a registry is asked.",
    ),
    "images-too-many": Page(
        "You have typed many images in a short time",
        "You have had registries asked about many images lately … can be tried again in …",
        "Before a session starts from an image that was typed, the facility asks its registry. Registries answer a facility only so many times "
        "an hour, for all its people together, so each person has a part of that. Starting the same image again within a minute asks nobody.",
        "Wait for as long as the sentence says, or choose an image of the list, which always may be had.",
        "`sessions.own_images_per_hour` in facility.yaml, for each person. A registry that knows the facility by name often answers it more: "
        "`registries.HOST.credentials_file`.",
    ),
    "image-platform": Page(
        "This image is for other computers",
        "… is for …, and sessions here run on …",
        "A container image is built for a kind of processor and operating system. This one has nothing for those of the facility.",
        "Build it for the platform in the sentence (`docker build --platform …`, `buildah build --platform …`), or choose another.",
        "A list of images for several platforms is taken when one of them fits.",
    ),
    "image-none": Page(
        "This is no container image that can be started",
        "What … has as … is no container image that can be started",
        "Registries hold other things too: charts, signatures, models, images in Docker's first form. The name leads to one of those.",
        "Look at the registry's page for the name of the image itself, or push it again with a current tool.",
        "Taken are OCI images and Docker's manifests of version 2, schema 2, and lists of them.",
    ),
    "image-old": Page(
        "The JupyterHub in this image is too old",
        "… has JupyterHub …; sessions here need … or newer",
        "An image brings its own single-user server, which talks to the hub. The image says that its version is older than this facility takes.",
        "Take a newer version of the image, or build it with a newer `jupyterhub`.",
        "The image's label `org.af-hub.jupyterhub` is compared with `sessions.minimum_jupyterhub` in facility.yaml. Images without the label start.",
    ),
    "image-user": Page(
        "This image does not say a number for its user",
        "… runs as …, and sessions here need the number of a user that is not root",
        "Nobody is root in a session. The image says root, the name of a user, or nothing, and the facility was told not to put another in "
        "its place, since an image may not work as somebody else.",
        "Build it with a number, as in `USER 1000`, or choose another.",
        "`sessions.unnumbered_user` in facility.yaml: `refuse` is in force, `set` lets such images run as uid 1000.",
    ),
    "limit": Page(
        "This is more than your limit",
        "… but your limit is …",
        "Each group has a limit for Dask clusters, their cores, memory and lifetime, so that all can work.",
        "Ask for less, as the sentence says, or close a Dask cluster that you no longer need. For more, write to the facility, best with "
        "the dates between which you need it.",
        "`limits` of the first rule that matches counts. An entry in `overrides` with larger `limits` and an `until` gives more for some time.",
    ),
}
"""By the last part of the page's address."""


def link(policy: Policy, page: str) -> str:
    """The end of a sentence that leads to a page; empty while nobody knows where the pages are."""
    where = policy.facility.help
    return f" See {where}{page}." if where and "${" not in where else ""


def unknown_issuer(policy: Policy, claims: Claims) -> str:
    """For somebody of an issuer that the policy does not have."""
    return (
        f"{claims.username} comes from {claims.issuer}, which this facility does not know; ask {policy.facility.contact}."
        + link(policy, "unknown-issuer")
    )


def no_login(policy: Policy, claims: Claims, groups: Iterable[str], speaking: Sequence[Rule], now: float) -> str:
    """For somebody whom no rule in force lets in; ``speaking`` are all that speak of them, in force or not."""
    letting = [rule for rule in speaking if isinstance(rule, Override) and rule.login]
    later = [rule for rule in letting if rule.begins and rule.begins.timestamp() > now]
    if later:
        first = min(later, key=lambda rule: rule.begins or rule.until)
        assert first.begins
        return f"{claims.username} will be let in from {instant(first.begins)} ({first.name})." + link(
            policy, "not-yet"
        )
    if letting:
        last = max(letting, key=lambda rule: rule.until)
        return (
            f"{claims.username} was let in until {instant(last.until)} ({last.name}), which is over. To be let in again, "
            f"ask {policy.facility.contact}." + link(policy, "ended")
        )
    return _no_group(policy, claims, groups)


def _no_group(policy: Policy, claims: Claims, groups: Iterable[str]) -> str:
    index = policy.index
    doors = index.doors[claims.issuer]
    issuer = index.issuers[claims.issuer]
    iam = f"{issuer.label} says" if len(index.issuers) > 1 else "the IAM says"
    return (
        f"{claims.username} is in none of the groups that may log in here: {listed(doors.named(groups), len(doors.groups))} "
        f"({iam}: {listed(tuple(groups)[:NAMED], len(tuple(groups)), 'no groups')}). "
        f"To be let in, ask {policy.facility.contact} for one of them." + link(policy, "no-group")
    )


def blocked(policy: Policy, username: str) -> str:
    """For somebody whom the hub's configuration shuts out."""
    return f"{username} is blocked at this facility; ask {policy.facility.contact}." + link(policy, "blocked")


def name_taken(policy: Policy, username: str) -> str:
    """For somebody whose name another subject had first."""
    return (
        f"The user name {username} belongs to somebody else at this facility, who had it before you. "
        f"To have this sorted out, ask {policy.facility.contact}." + link(policy, "name-taken")
    )


def agreement(policy: Policy, issuer: str) -> str:
    """For somebody to whom the IAM gives nothing before its rules of use are signed."""
    found = policy.index.issuers.get(issuer)
    signed = policy.agreements.get(found.name) if found else None
    label = found.label if found and len(policy.issuers) > 1 else "the IAM"
    what = signed.title if signed else "the acceptable use policy (AUP)"
    where = signed.url if signed else f"the page of {label}" if found is None else found.issuer
    return (
        f"Before {label} lets you go on, {what} must be signed ({where}); then log in here again. "
        f"If that does not help, ask {policy.facility.contact}." + link(policy, "agreement")
    )


def no_account(policy: Policy) -> str:
    """For somebody who wants to do something at the pool and has no account there."""
    groups = groups_with([rule for rule in policy.rules if rule.condor])
    return (
        f"Your groups give you no HTCondor account, so no job and no Dask cluster can run for you; {groups} have one. "
        f"Ask {policy.facility.contact} for such a group." + link(policy, "no-account")
    )


def no_clusters(policy: Policy) -> str:
    """For somebody who has no limits for Dask clusters, and so none."""
    groups = groups_with([rule for rule in policy.rules if rule.condor and rule.limits])
    return (
        f"Your groups give you no Dask clusters; {groups} have them. Ask {policy.facility.contact} for such a group."
        + link(policy, "no-clusters")
    )


def image_refused(policy: Policy, sentence: str, reason: str) -> str:
    """The sentence about an image, with whom to ask and where more stands; ``reason`` is one of :class:`~af_hub.registry.reasons.ImageReason`."""
    return f"{sentence} If you need it, ask {policy.facility.contact}." + link(policy, reason)


def not_given(policy: Policy, kind: str, name: str, allowed: Sequence[str]) -> str:
    """For somebody who chose an ``image``, a ``size`` or a ``site`` that is another's; the end of a sentence, and one more."""
    groups = groups_with([rule for rule in policy.rules if name in getattr(rule, f"{kind}s")])
    return (
        f"{groups} have it; open are: {listed(allowed, len(allowed), 'none')}. For another group ask {policy.facility.contact}."
        + link(policy, "not-given")
    )


def beyond_limit(policy: Policy) -> str:
    """After a sentence that says what the limit is."""
    return f" For more ask {policy.facility.contact}." + link(policy, "limit")


def groups_with(rules: Iterable[Rule]) -> str:
    """``members of /a, /b``: those whom the rules speak of."""
    groups = tuple(dict.fromkeys(group for rule in rules for group in rule.groups))
    return f"members of {listed(groups[:NAMED], len(groups))}" if groups else "no groups"


def listed(some: Sequence[str], count: int, none: str = "there are none") -> str:
    """``/a, /b and 7 more``."""
    if not some:
        return none
    return ", ".join(some) + (f" and {count - len(some)} more" if count > len(some) else "")
