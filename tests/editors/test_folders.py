import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from editors import folders
from editors.folders import files_of, whole_folder


def fill(target, text: str) -> None:
    with whole_folder(target, card="card.json") as built:
        (built / "card.json").write_text(text)


def test_a_folder_appears_with_all_that_was_written(tmp_path):
    with whole_folder(tmp_path / "deep" / "out", card="card.json") as built:
        (built / "card.json").write_text("{}")
        assert not (tmp_path / "deep" / "out").exists()
    assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == ["card.json"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_earlier_one_is_replaced_and_stays_whole_if_the_next_fails(tmp_path):
    fill(tmp_path / "out", "one")
    fill(tmp_path / "out", "two")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out", card="card.json") as built:
        (built / "card.json").write_text("three")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "card.json").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "one")
    assert (tmp_path / "out" / "card.json").read_text() == "one"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_none_of_ours_is_refused_and_stays(kind, tmp_path):
    theirs = tmp_path / "out" if kind == "file" else tmp_path / "out" / "thesis.tex"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("years of work")
    with pytest.raises(FileExistsError, match=r"out exists and holds no card\.json"):
        fill(tmp_path / "out", "one")
    assert theirs.read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path):
    fill(tmp_path / "releases" / "3", "one")
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "3")
    fill(tmp_path / "current", "two")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "releases" / "3" / "card.json").read_text() == "two"


def test_what_lies_in_subfolders_is_in_a_folder_and_what_lies_behind_a_link_is_not(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for file in (ours / "b", ours / "a" / "deep", theirs / "c"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    (ours / "link").symlink_to(theirs)
    assert list(files_of(ours)) == ["a/deep", "b", "link"]


@pytest.fixture(params=["in one step", "in steps"])
def exchange(request, monkeypatch):
    """Both ways in which an earlier folder is replaced: the second is for systems that lack the first."""
    if request.param == "in steps":
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)


def test_an_earlier_one_is_replaced_and_nothing_else_stays(exchange, tmp_path):
    for text in ("one", "two", "three"):
        fill(tmp_path / "out", text)
        assert (tmp_path / "out" / "card.json").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_crash_between_two_renames_leaves_one_or_the_other(tmp_path, monkeypatch):
    fill(tmp_path / "out", "one")
    rename = Path.rename

    def crash(path, target):
        rename(path, target)
        raise RuntimeError("crash")

    monkeypatch.setattr(Path, "rename", crash)
    fill(tmp_path / "out", "two")
    assert (tmp_path / "out" / "card.json").read_text() == "two"


def test_of_several_that_fill_the_same_new_folder_at_once_none_fails(tmp_path):
    together = threading.Barrier(4)

    def fill_with_others(_):
        with whole_folder(tmp_path / "out", card="card.json") as built:
            (built / "card.json").write_text("same")
            together.wait(timeout=20)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill_with_others, range(4)))
    assert (tmp_path / "out" / "card.json").read_text() == "same"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_one_is_put_back_if_the_second_step_fails(tmp_path):
    fill(tmp_path / "out", "one")
    with pytest.raises(FileNotFoundError):
        folders._exchange_in_steps(tmp_path / "vanished", tmp_path / "out")
    assert (tmp_path / "out" / "card.json").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
