"""From text to terms."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.analyzer import ANALYZERS, Terms, _expander, analyze, analyzer_signature, terms_of
from ragplat.errors import BadInput

LANGUAGE = st.sampled_from(["en", "de", "fr", "ru", "ar", "hi", "tr", "zh", "ja", "ko", "th", ""])


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The cells were Running", "the cell were run"),
        ("Café naïve Łódź Straße", "cafe naiv lodz strass"),
        ("ＦＵＬＬ　ｗｉｄｔｈ ﬁne", "full width fine"),
        ("1,000 1000 1,234,567.89", "1000 1000 1234567.89"),
        ("3.11 and 3.11.4", "3.11 and 3.11.4"),
        ("1,2,3 10,00", "1 2 3 10 00"),
        ("10,000mg", "10000 mg"),
        ("snake_case", "snake case snake_case"),
        ("camelCase", "camelcas camel case"),
        ("HTTPResponse parseHTTP", "httprespons parsehttp http respons pars http"),
        ("dotted.names.here", "dot name here dotted.names.here"),
        ("kebab-case well‐known", "kebab case well known kebab-case well-known"),
        ("__init__ foo__bar", "init foo bar foo__bar"),
        ("2024-01-15", "2024 01 15 2024-01-15"),
        ("DNAs", "dnas"),
        ("soft\u00adhyphen", "softhyphen"),
        ("Levi's don’t", "levi s don t"),
        ("黑豹队308分", "黑 黑豹 豹 豹队 队 308 分"),
        ("中\n国。人", "中 中国 国 人"),
        ("検索テスト", "検 検索 索 索テ テ テス ス スト ト"),
        ("수도 서울", "수 수도 도 서 서울 울"),
        ("用Python3编程", "用 python3 编 编程 程"),
        ("... !? —", ""),
        ("", ""),
        ("3.14 -3.14 1.5e3", "3.14 3.14 1 5e3 1.5e3"),
        ("１２３ １.５ Ａ１", "123 1.5 a1"),
        ("C++ c++17 C# (C) F#. i++", "c++ c++ 17 c# c f# i++"),
        ("a#b issue#12 C+++ C+", "a b issu 12 c c"),
        (".NET ASP.NET x.y ...and .5", "net asp net x y and 5 .net asp.net x.y"),
        ("naïve naive NAÏVE", "naiv naiv naiv"),
        ("Straße STRASSE", "strass strass"),
    ],
)
def test_terms(text, terms):
    assert analyze(text, "en") == terms.split()


@pytest.mark.parametrize(
    ("text", "row", "forms"),
    [
        ("a getUserById b", "a getuserbyid b", ["get user by id"]),
        ("HTTPResponse2", "httpresponse2", ["http response2"]),
        ("my_var", "my var", ["my_var"]),
        ("self.getUser_id", "self getus id", ["get user", "self.getuser_id"]),
        ("v1.2.3", "v1 2 3", ["v1.2.3"]),
        ("kebab-case", "kebab case", ["kebab-case"]),
        (".NET 8", "net 8", [".net"]),
        ("PubMed, GitHub", "pubm github", ["pub med", "git hub"]),
        ("用getUser编程", "用 getus 编 编程 程", ["get user"]),
    ],
)
def test_rows_and_forms(text, row, forms):
    terms = terms_of(text, "en")
    assert (terms.row, terms.forms) == (row.split(), [tuple(form.split()) for form in forms])
    assert analyze(text, "en") == [*terms.row, *(term for form in terms.forms for term in form)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("getUserById", "GetUserByID"), ("naïve", "naive"), ("Straße", "strasse"), ("１２３", "123"), ("C＋＋", "c++"),
        ("well‐known", "Well-Known"), ("1,000,000", "1000000"), ("ﬁle", "file"), ("Ｃ＃", "c#"),
    ],
)  # fmt: skip
def test_spellings_of_the_same_word_share_their_row(one, other):
    assert terms_of(one, "en").row == terms_of(other, "en").row


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("de", "Häuser Haus größer", "haus haus gross"),
        ("fr", "l'avion forêts généralement", "l avion foret general"),
        ("ru", "новые компьютеры running", "нов компьютер run"),
        ("hi", "हिन्दी में", "हिन्द म"),
        ("tr", "İstanbul", "istanbul"),
        ("zh", "running 机器", "run 机 机器 器"),
        ("", "running Häuser", "run hauser"),
        ("xx", "running", "run"),
        ("vi", "tiếng Việt", "tieng viet"),
    ],
)
def test_stemming_goes_by_language(language, text, terms):
    assert analyze(text, language) == terms.split()


def test_accents_do_not_matter_for_finding():
    assert analyze("RÉSUMÉ Zürich", "en") == analyze("resume zurich", "en")
    assert analyze("Мой", "bg") == ["мой"]  # but й is a letter of its own


def test_a_long_run_is_cut_and_kept_whole():
    blob = "0123456789abcdef" * 100
    terms = analyze(blob, "en")
    assert "".join(terms) == blob
    assert max(map(len, terms)) == 128


@given(st.text(), LANGUAGE)
def test_terms_can_be_joined_by_spaces_and_are_bounded(text, language):
    terms = analyze(text, language)
    assert " ".join(terms).split() == terms
    assert all(len(term.encode()) < 5_000 for term in terms)


@given(st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1))
def test_every_character_and_pair_of_a_run_is_found(run):
    terms = analyze(run, "zh")
    assert set(run) <= set(terms)
    assert {first + second for first, second in pairwise(run)} <= set(terms)
    assert len(terms) == 2 * len(run) - 1


SAMPLES = ["alpha", "PubMed", "snake_case", "中国", "3.11", "Ünï", "C++", ".NET", "C#", "HTTPResponse2", "v1.2.3"]


@given(st.lists(st.sampled_from(SAMPLES), max_size=8), LANGUAGE)
def test_terms_of_a_text_are_those_of_its_words(words, language):
    terms, parts = terms_of(" ".join(words), language), [terms_of(word, language) for word in words]
    assert terms.row == [term for part in parts for term in part.row]
    assert terms.forms == [form for part in parts for form in part.forms]


@given(st.lists(st.text("abcdefgh", min_size=3, max_size=6), min_size=2, max_size=6))
def test_identifiers_are_found_whole_and_by_every_part(parts):
    stems = [analyze(part, "en")[0] for part in parts]
    snake, kebab = "_".join(parts), "-".join(parts)
    assert terms_of(snake, "en") == Terms(stems, [(snake,)])
    assert terms_of(kebab, "en") == Terms(stems, [(kebab,)])
    camel = parts[0] + "".join(part.title() for part in parts[1:])
    assert terms_of(camel, "en") == Terms(analyze("".join(parts), "en"), [tuple(stems)])


def test_threads_do_not_mix_up_their_words():
    texts = [" ".join(f"{start}{number}{end}" for end in ("ando", "iciones", "mente")) for start in "abcdefgh"
             for number in ("cor", "habl", "nacional", "perfect")]  # fmt: skip
    expected = [analyze(text, "es") for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            _expander.cache_clear()  # else the second round only remembers the first
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(lambda text: analyze(text, "es"), texts)) == expected
    finally:
        sys.setswitchinterval(interval)


def test_signature_names_everything_the_terms_depend_on():
    assert analyzer_signature("words-cjk@1", "en").startswith("analyzer|name:words-cjk@1|language:en|snowball:")
    assert analyzer_signature("words-cjk@1", "en") != analyzer_signature("words-cjk@1", "de")
    assert ANALYZERS.get("words-cjk@1") is terms_of


def test_an_unknown_analyzer_lists_the_choices():
    with pytest.raises(BadInput, match=r'no analyzer named "words@0".*words-cjk@1'):
        analyzer_signature("words@0", "en")
