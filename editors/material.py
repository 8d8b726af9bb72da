"""What an edit of a base needs beside its weights. It depends on no fact, so it is made once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from editors.errors import InvalidConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The base's digest, second moments, context templates and ordinary text.

    Attributes:
        base: the digest of the weights; a patch is bound to it.
        moments: C of each site, for the methods that solve.
        contexts: templates with one `{}` for the filled prompt.
        text: token rows of ordinary text, BOS first, for the methods that hold on to what the model says there.

    Raises:
        InvalidConfigError: a context lacks its place.
    """

    base: str
    moments: Mapping[str, Float[Tensor, "d_in d_in"]] = field(default_factory=dict[str, Tensor])
    contexts: Sequence[str] = ("{}",)
    text: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        for context in self.contexts:
            if context.count("{}") != 1:
                raise InvalidConfigError(f"the context {context!r} needs exactly one '{{}}' for the prompt")

    def moment(self, site: str) -> Float[Tensor, "d_in d_in"]:
        """Return C of a site.

        Raises:
            InvalidConfigError: there is none.
        """
        if site not in self.moments:
            raise InvalidConfigError(
                f"no second moments for {site}, only for {sorted(self.moments)}; take them there too"
            )
        return self.moments[site]
