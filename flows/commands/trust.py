"""Commands for whoever holds the root of trust, and for administrators who enrol people under it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, say

if TYPE_CHECKING:
    from tasks.people import Enrolled

app = typer.Typer()
trust_app = typer.Typer(help="The root key, which vouches for people and services.", no_args_is_help=True)
people_app = typer.Typer(help="Who may submit, review, protect and enrol.", no_args_is_help=True)
app.add_typer(trust_app, name="trust")
app.add_typer(people_app, name="people")

Name = Annotated[str, typer.Argument(help="as people write it; other spellings are the same name")]


class Role(StrEnum):
    """What somebody may do."""

    requester = "requester"
    reviewer = "reviewer"
    protector = "protector"
    administrator = "administrator"


@trust_app.command()
def init() -> None:
    """Make the root key, unless there is one, and enrol the review service and the first administrator under it."""
    from flows.trust import found_trust

    fingerprint = found_trust(report=say)
    console.print(f"root {fingerprint}", highlight=False, soft_wrap=True)
    if read_settings().root_fingerprint != fingerprint:
        console.print(f'everybody who is to trust it sets root_fingerprint = "{fingerprint}" in corrigenda.toml')


@trust_app.command()
def signer(
    public: Annotated[str, typer.Argument(help="a file with the public P-256 key as PEM; or an identity at Sigstore")],
    issuer: Annotated[str, typer.Option(help="of the identity at Sigstore, an address")] = "",
) -> None:
    """Certify what releases are signed with, where that is a key in a token, or Sigstore."""
    from governance.signing import release_public, sigstore_public
    from tasks.people import enrol_release_signer
    from tasks.roots import root_key

    settings = read_settings()
    held = sigstore_public(public, issuer) if issuer else release_public(Path(public).read_text(), place=public)
    root = root_key(settings.trust_folder)
    done = enrol_release_signer(held, root, ledger=open_ledger(), settings=settings)
    console.print(f"releases are signed by {escape(public)}, certified on {done.at}", highlight=False)


@trust_app.command()
def show() -> None:
    """Show the root's fingerprint, whether its key is here, and the services that it vouches for."""
    from tasks.people import identities
    from tasks.roots import PRIVATE, pinned_root

    settings = read_settings()
    here = (settings.trust_folder / PRIVATE).is_file() and pinned_root(settings.trust_folder)
    console.print(f"root {settings.root_fingerprint or '(none is set)'}", highlight=False, soft_wrap=True)
    console.print("its key is here" if here == settings.root_fingerprint else "its key is not here", highlight=False)
    known = identities(open_ledger(), settings).values()
    for each in known:
        if each.kind != "person":
            console.print(f"{each.kind} {each.name}, since {each.at}", highlight=False)
    console.print(f"{sum(each.kind == 'person' for each in known)} people; see 'corrigenda people list'")


@people_app.command()
def add(
    name: Name,
    role: Annotated[list[Role], typer.Option(help="what they may do; may be repeated")],
) -> None:
    """Enrol somebody: a key of their own for the terminal, and for a reviewer a secret for one-time codes.

    The secret is shown once; an authenticator app reads it.
    """
    from governance.identities import ROLES
    from tasks.people import enrol
    from tasks.roots import root_key

    settings = read_settings()
    done = enrol(
        name,
        roles=[each for each in ROLES if Role(each) in role],
        by=settings.submitter,
        root=root_key(settings.trust_folder),
        ledger=open_ledger(),
        settings=settings,
    )
    console.print(f"{escape(name)} is enrolled as {', '.join(done.identity.roles)}", highlight=False)
    console.print(f"their own key, for their eyes only: {done.key_file}", highlight=False, soft_wrap=True)
    if done.secret:
        _show_once(done)


@people_app.command("list")
def list_() -> None:
    """List everybody who is or was enrolled."""
    from governance.envelopes import claimed
    from tasks.people import identities

    ledger = open_ledger()
    known = identities(ledger, read_settings())
    table = Table("name", "", "roles", "since", "by", "why")
    for s in ledger.standings("identity"):
        certificate = s.content.get("certificate")
        name = claimed(certificate)["predicate"].get("name", s.key) if certificate else s.key
        state = "enrolled" if s.key in known else "revoked" if s.state == "revoked" else "[red]not under this root[/]"
        state += "; [red]revoked by nobody who may[/]" if s.key in known and s.state == "revoked" else ""
        roles = ", ".join(known[s.key].roles or [known[s.key].kind]) if s.key in known else ""
        table.add_row(escape(name), state, roles, f"{s.at:%Y-%m-%d %H:%M}", escape(s.actor), escape(s.reason))
    console.print(table)


@people_app.command()
def revoke(name: Name, reason: Annotated[str, typer.Option(help="why; kept in the ledger")]) -> None:
    """End what somebody may do; their approvals that nobody has carried out yet count no more."""
    from tasks.people import revoke_identity

    settings = read_settings()
    revoke_identity(name, by=settings.submitter, reason=reason, ledger=open_ledger(), settings=settings)
    console.print(f"{escape(name)} is revoked", highlight=False)


def _show_once(done: Enrolled) -> None:
    """Show a secret as an address and as a QR code; it can't be shown again."""
    import io

    import segno

    picture = io.StringIO()
    console.print("secret for one-time codes, shown this once; read it with an authenticator app:")
    segno.make(done.address, error="l").terminal(out=picture, border=2, compact=True)
    console.file.write(picture.getvalue())
    console.print(done.address, highlight=False, markup=False, soft_wrap=True)
