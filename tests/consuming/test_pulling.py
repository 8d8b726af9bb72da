"""What a consumer is given, where no service is needed to tell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from consuming.fetching import PLAIN_PATH
from consuming.pulling import _write_card
from consuming.versions import Version
from editors.errors import UnprovenError
from editors.forms import write_form
from editors.models import load_tokenizer, weights_digest
from editors.patch import Patch
from governance.verifying import check_files, read_card
from tasks.base import describe_files

TEMPLATES = {"default": "{{ messages }}", "tool": "{{ messages }}!"}


@pytest.fixture
def pulled(tiny_folder: Path, tmp_path: Path) -> Path:
    """A version as `pull` builds it, of a base whose tokenizer has a second chat template."""
    base, folder = tmp_path / "base", tmp_path / "pulled"
    folder.mkdir()
    shutil.copytree(tiny_folder, base)
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = TEMPLATES
    tokenizer.save_pretrained(base)
    patch = Patch(base=weights_digest(base))
    manifest = {"base": patch.base, "base_files": describe_files(base), "patch": patch.save(tmp_path / "patch")}
    given = {"patch": tmp_path / "patch", "base": base, "folder": folder, "dtype": "float32"}
    write_form("model", manifest, candidate="c", **given)
    version = Version(candidate="c", manifest=manifest, release=None)
    _write_card(folder, version, form="model", dtype="float32", lost={})
    return folder


def test_a_pulled_folder_has_all_chat_templates_and_passes_verification(pulled):
    assert load_tokenizer(pulled).chat_template == TEMPLATES
    check_files(pulled, read_card(pulled))
    assert "additional_chat_templates/tool.jinja" in read_card(pulled)["files"]


def test_an_altered_chat_template_in_a_subfolder_is_named(pulled):
    (pulled / "additional_chat_templates" / "tool.jinja").write_text("other")
    with pytest.raises(UnprovenError, match=r"additional_chat_templates/tool\.jinja: expected sha256"):
        check_files(pulled, read_card(pulled))


def test_a_chat_template_that_the_card_does_not_name_is_refused(pulled):
    (pulled / "additional_chat_templates" / "more.jinja").write_text("more")
    with pytest.raises(UnprovenError, match=r"doesn't name: additional_chat_templates/more\.jinja"):
        check_files(pulled, read_card(pulled))


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "a/../escaped", ".hidden", "a//b", "a/b/c", ""])
def test_a_base_file_outside_its_folder_is_no_plain_path(name):
    assert PLAIN_PATH.fullmatch(name) is None
