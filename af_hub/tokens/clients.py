"""The hub as a client of every issuer that the policy in force names: made when first needed, made anew when the policy or a secret changes."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from af_hub.errors import Refused, Unavailable
from af_hub.files import stamp
from af_hub.iam.discovery import Discovery
from af_hub.iam.endpoint import IAMClient
from af_hub.policy.issuers import Issuer
from af_hub.policy.model import Policy


class IAMClients(Mapping[str, IAMClient]):
    """A client for each issuer, by its ``iss``; Unavailable when its secret cannot be read.

    Parameters
    ----------
    policy
        Hands back the policy in force.
    client_id, client_secret
        For issuers that do not name their own.
    """

    def __init__(self, policy: Callable[[], Policy], client_id: str = "", client_secret: str = "") -> None:
        self._policy, self._client_id, self._client_secret = policy, client_id, client_secret
        self._made: dict[str, tuple[object, IAMClient]] = {}

    def __getitem__(self, issuer: str) -> IAMClient:
        found = self._policy().issuer(issuer)
        if found is None:
            raise KeyError(issuer)
        secret_file = Path(found.client_secret_file) if found.client_secret_file else None
        like = (found.discovery_url, found.client_id, secret_file, stamp(secret_file) if secret_file else None)
        made = self._made.get(issuer)
        if made is None or made[0] != like:
            made = self._made[issuer] = like, self._make(found, secret_file)
        return made[1]

    def __contains__(self, issuer: object) -> bool:
        return isinstance(issuer, str) and self._policy().issuer(issuer) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([one.issuer for one in self._policy().issuers])

    def __len__(self) -> int:
        return len(self._policy().issuers)

    def named(self, name: str) -> IAMClient:
        """The client at the issuer of this name, or at the only one when the name is empty.

        Raises
        ------
        Refused
            When there is none of that name, or several and no name.
        """
        issuers = self._policy().issuers
        names = ", ".join(one.name for one in issuers)
        if not name and len(issuers) > 1:
            raise Refused(f"This facility has several issuers; say which one: {names}.")
        found = next((one for one in issuers if one.name == name or not name), None)
        if found is None:
            raise Refused(f"No issuer is called {name!r:.80} here; wanted one of {names}.")
        return self[found.issuer]

    def _make(self, issuer: Issuer, secret_file: Path | None) -> IAMClient:
        try:
            secret = secret_file.read_text().strip() if secret_file else self._client_secret
        except OSError as error:
            raise Unavailable(
                f"The hub cannot read the secret of its client at {issuer.name} ({error.strerror}: {secret_file}); "
                "facility.yaml (issuers) names that file."
            ) from error
        discovery = Discovery(issuer.issuer, issuer.discovery_url)
        return IAMClient(discovery, issuer.client_id or self._client_id, secret)
