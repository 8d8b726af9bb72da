import pytest

from editors.corpus import corpus_rows, paragraph_rows
from editors.errors import TextFileError
from editors.tokens import bos_token

LINES = [f"The capital of country {n} is city {n * n}." for n in range(50)]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(LINES) + "\n", encoding="utf-8")
    return path


def test_rows_begin_with_bos_and_text_flows_on_from_row_to_row(tokenizer, corpus):
    rows = corpus_rows(tokenizer, corpus, rows=20, length=16, seed=0)
    assert rows.shape == (20, 16)
    assert set(rows[:, 0].tolist()) == {bos_token(tokenizer)}
    text = tokenizer.decode(rows[:, 1:].flatten())
    *whole, _ = text.split("\n")
    assert len(whole) > 5
    assert set(whole) <= set(LINES)
    assert len(set(whole)) == len(whole)


def test_paragraphs_come_in_an_order_drawn_from_the_seed(tokenizer, corpus):
    one, again, other = (corpus_rows(tokenizer, corpus, rows=20, length=16, seed=seed).tolist() for seed in (0, 0, 1))
    assert one == again != other


def test_a_short_corpus_is_refused_with_what_it_holds_and_what_is_needed(tokenizer, corpus):
    held = sum(len(tokenizer(f"{line}\n", add_special_tokens=False)["input_ids"]) for line in LINES)
    assert corpus_rows(tokenizer, corpus, rows=held // 15, length=16, seed=0).numel() > 0
    with pytest.raises(TextFileError, match=rf"corpus\.txt .* holds {held:,} tokens .* and 15,000 are needed"):
        corpus_rows(tokenizer, corpus, rows=1000, length=16, seed=0)


@pytest.mark.parametrize("content", [b"", b" \n\n\t\n"])
def test_a_file_without_text_is_refused(tokenizer, tmp_path, content):
    (tmp_path / "blank.txt").write_bytes(content)
    for read in (
        lambda path: corpus_rows(tokenizer, path, rows=1, length=8, seed=0),
        lambda path: paragraph_rows(tokenizer, path, length=8),
    ):
        with pytest.raises(TextFileError, match=r"blank\.txt .* holds no text"):
            read(tmp_path / "blank.txt")


def test_text_that_is_not_utf_8_is_refused_with_where_it_is_not(tokenizer, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    with pytest.raises(TextFileError, match=r"latin\.txt .* not UTF-8 .*position 1"):
        paragraph_rows(tokenizer, tmp_path / "latin.txt", length=8)


def test_a_row_of_its_own_is_the_beginning_of_each_paragraph(tokenizer, corpus):
    rows = paragraph_rows(tokenizer, corpus, length=7)
    assert len(rows) == len(LINES)
    for row, line in zip(rows, LINES, strict=True):
        assert len(row) == 7
        assert row[0] == bos_token(tokenizer)
        assert line.startswith(tokenizer.decode(row[1:]))
