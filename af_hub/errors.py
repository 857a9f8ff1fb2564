"""Every exception that AF Hub raises on purpose.

::

    AFError                     its message is fit for the analyst
    ├── PolicyError             facility.yaml says something that cannot be
    ├── ClaimsError             a token or userinfo answer lacks what we need
    ├── Refused                 the policy does not give this person that right
    │   ├── ChoiceRefused       ... not the session that was chosen
    │   └── EndpointRefused     ... not that endpoint of a Dask cluster, or no login at the forwarder
    ├── ImageRefused            a container image cannot be had, or not be used here
    ├── FragmentConflict        two parts of a session want one place
    ├── LoginRequired           the IAM ended this login; only the person can begin a new one
    ├── TokenRejected           a token is not what its issuer would have signed for us
    ├── JobKitError             the files that came with a job of a Dask cluster cannot be used
    ├── ClusterFailed           a Dask cluster did not come up, or is over
    └── Unavailable             another system does not answer, or answers nonsense
        ├── IAMAway             ... an IAM does not answer anybody now
        ├── IAMRefused          ... an IAM refuses one request of the hub, with a code
        ├── EndpointAway        nobody offers that endpoint of a Dask cluster at this moment
        └── PoolAway            the batch system does not answer; what it was asked for may have happened

A message names what was found, what was wanted, and what to change. Details for the administrator go to the log, not here.
"""


class AFError(Exception):
    """Base of all our errors; ``str()`` of it is a sentence for people and never holds a secret."""

    @property
    def jupyterhub_message(self) -> str:
        """The sentence that JupyterHub puts on the spawn page."""
        return str(self)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows below the cell: the sentence, without the frames that led to it (IPython, ``showtraceback``)."""
        return [f"{type(self).__name__}: {self}"]


class PolicyError(AFError):
    """``facility.yaml`` cannot be used; the message names place, what was found and what was wanted."""


class ClaimsError(AFError):
    """What the IAM says about a person lacks something that every person must have."""


class Refused(AFError):
    """The policy does not allow this to this person."""


class Unavailable(AFError):
    """Another system did not answer in time, or not in its protocol."""


class IAMAway(Unavailable):
    """The IAM cannot be reached, is broken or has too much to do; ``pause`` is how many seconds it wants to be left alone, 0 if it did not say."""

    def __init__(self, sentence: str, pause: float = 0.0) -> None:
        super().__init__(sentence)
        self.pause = pause


class IAMRefused(Unavailable):
    """The IAM refuses this one request; ``code`` is its error code (RFC 6749, section 5.2), empty when it gave none."""

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class ChoiceRefused(Refused):
    """This person may not have the session that was chosen; ``reason`` is one of a closed set, for metrics."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class ImageRefused(AFError):
    """A container image cannot be had, or not be used here; ``reason`` is one of :class:`af_hub.registry.reasons.ImageReason`."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class FragmentConflict(AFError):
    """Two parts of a session want different values in one place."""


class LoginRequired(AFError):
    """The IAM takes the refresh token no longer (``invalid_grant``); the person must log in again."""


class TokenRejected(AFError):
    """A token's signature, issuer, audience, nonce or lifetime is wrong."""


class EndpointRefused(Refused):
    """The forwarder does not let this principal in, or not to this endpoint."""


class EndpointAway(Unavailable):
    """Nobody offers this endpoint at the forwarder now: its job waits, lost its way, or is over."""


class PoolAway(Unavailable):
    """The batch system did not answer in time; what it was asked for may have happened."""


class JobKitError(AFError):
    """``job.json``, ``worker.json`` or a key file beside it is missing or says something that cannot be."""


class ClusterFailed(AFError):
    """A Dask cluster did not come up, or is over; the message says why."""
