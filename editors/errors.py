"""What can go wrong in an edit, one tree.

    EditorError
    |-- InvalidFactError        a fact that cannot be edited as it is written (a ValueError too)
    |   `-- SubjectNotFoundError    the subject has no token of its own in the prompt
    |-- InvalidConfigError      a setting outside its range (a ValueError too)
    |-- RecordFileError         a file of benchmark records that cannot be read (a ValueError too)
    |-- TextFileError           a file of ordinary text that is too short or unreadable (a ValueError too)
    |-- ModelLoadError          a folder or file that is no readable model
    |-- UnknownLayoutError      an architecture whose sites are not described in layouts.py
    |-- UnknownSiteError        a site that the model does not have
    |-- SingularSystemError     a least-squares system that cannot be factorised
    |-- NonFiniteError          NaN or infinity in weights, moments or a result
    |-- UneditedError           an edit that would change no weight though a change was wanted
    |-- WrongBaseError          a patch that was made for other weights
    |-- DamagedArtifactError    a file whose bytes are not the ones that were written
    `-- UntrustedError          a statement that nobody has to believe; the others are in governance/errors.py
        `-- UnprovenError           a file of a release does not prove what it should

Every message says what, where, what was got, and the way out. Nothing has been changed when one is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class EditorError(Exception):
    """Anything that `editors` refuses to do."""


class InvalidFactError(EditorError, ValueError):
    """A fact that cannot be edited as it is written."""


class SubjectNotFoundError(InvalidFactError):
    """The subject has no token of its own in the filled prompt."""

    def __init__(self, subject: str, prompt: str, reason: str) -> None:
        super().__init__(f"{subject!r} is not in {prompt!r} after tokenization: {reason}; check the prompt")


class InvalidConfigError(EditorError, ValueError):
    """A setting outside its range."""


class RecordFileError(EditorError, ValueError):
    """A file of benchmark records that cannot be read."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line


class TextFileError(EditorError, ValueError):
    """A file of ordinary text that is too short or unreadable."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"the text in {path} cannot be used: {problem}")


class ModelLoadError(EditorError):
    """A folder or file that is no readable model."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"no model could be loaded from {path}: {reason}; give a folder with config.json, "
            "a tokenizer and *.safetensors, as save_pretrained writes it"
        )


class UnknownLayoutError(EditorError):
    """An architecture whose sites are not described."""

    def __init__(self, architecture: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no layout for architecture {architecture!r}; known are {', '.join(known)}. "
            "To add one, write an entry of LAYOUTS in editors/layouts.py: where its backbone, decoder layers and MLP "
            "down-projection are, and what else Layout asks; then give tests/editors/conftest.py a tiny config of it"
        )


class UnknownSiteError(EditorError):
    """A site that the model does not have."""

    def __init__(self, site: str, known: Sequence[str]) -> None:
        super().__init__(f"the model has no site {site!r}; its sites are {known[0]} to {known[-1]}")


class SingularSystemError(EditorError):
    """A least-squares system that cannot be factorised."""


class NonFiniteError(EditorError):
    """NaN or infinity where numbers are needed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} holds NaN or infinity; nothing was changed. Check that the base is intact")


class UneditedError(EditorError):
    """An edit that would change no weight though a change was wanted."""

    def __init__(self, sites: Sequence[str], dtype: object) -> None:
        super().__init__(
            f"the edit changes no weight of {', '.join(sites)} in {dtype}, though its facts ask for a change; "
            "load the model in float32, or allow a larger change in the settings"
        )


class WrongBaseError(EditorError):
    """A patch that was made for other weights."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(
            f"the patch was made for the base {expected}, this model's is {got}; load that base, or edit this one anew"
        )


class DamagedArtifactError(EditorError):
    """A file whose bytes are not the ones that were written."""

    def __init__(self, path: Path, *, expected: str, got: str) -> None:
        super().__init__(f"{path} is damaged: expected {expected}, got {got}; fetch or make it again")
        self.path = path
        self.expected = expected
        self.got = got


class UntrustedError(EditorError):
    """A statement that nobody has to believe."""


class UnprovenError(UntrustedError):
    """A file of a release is missing, differs, or does not prove what it should; the message names it."""
