"""Every page: only for those who may see it, and never without its protecting headers."""

import pytest
from django.contrib.auth.models import User
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from indexer.models import Corpus, Membership
from tests.rows import cite, make_corpus, make_document, make_turn

pytestmark = pytest.mark.django_db
TEXT = "# Harbour\n\nThe lighthouse is 31 metres tall.\n"
PUBLIC = {"healthz", "login", "logout"}
GET_ONLY_POST = {
    "turn-stop",
    "turn-again",
    "turn-rating",
    "conversation-rename",
    "corpus-upload",
    "document-retry",
    "ask-question",
}


@pytest.fixture
def owner():
    return User.objects.create_user("owner", password="x")


@pytest.fixture
def addresses(owner) -> dict[str, str]:
    """Every named page of the site, filled with things that belong to ``owner``."""
    corpus = make_corpus("private", owner)
    document = make_document(corpus, "harbour.md", TEXT, media_type="application/pdf", pages=[[1, 0, len(TEXT)]])
    turn = make_turn(owner, corpus, text="31 metres. [1]", citations=[cite(document, "31 metres")])
    values = {"corpus": corpus.slug, "document": document.pk, "conversation": turn.conversation_id, "turn": turn.pk}
    made = {}
    for pattern in patterns(get_resolver().url_patterns):
        kind = pattern.name.partition("-")[0]
        arguments = {"slug": values["corpus"], "pk": values.get(kind), "page": 1}
        wanted = {name: arguments[name] for name in pattern.pattern.converters}
        made[pattern.name] = reverse(pattern.name, kwargs=wanted)
    return made


def patterns(found):
    for one in found:
        if isinstance(one, URLResolver) and one.app_name != "admin":
            yield from patterns(one.url_patterns)
        elif isinstance(one, URLPattern) and one.name:
            yield one


def visit(client, name: str, address: str, **headers):
    return (client.post if name in GET_ONLY_POST else client.get)(address, **headers)


def test_a_stranger_is_sent_to_the_login_page(client, addresses):
    for name, address in addresses.items():
        if name not in PUBLIC:
            response = visit(client, name, address)
            assert response.status_code == 302, name
            assert response.url.startswith("/accounts/login/"), name


def test_a_script_is_told_that_the_session_has_ended(client, addresses):
    response = client.get(addresses["corpus-live"], headers={"Accept": "*/*", "HX-Request": "true"})
    assert response.status_code == 401
    assert "session has ended" in response.json()["error"]


def test_what_is_not_yours_does_not_exist(client, addresses):
    client.force_login(User.objects.create_user("other"))
    about_someones = [name for name, address in addresses.items() if any(c.isdigit() or c == "p" for c in address)]
    seen = 0
    for name in about_someones:
        if name in PUBLIC or ("private" not in addresses[name] and not any(c.isdigit() for c in addresses[name])):
            continue
        response = visit(client, name, addresses[name])
        assert response.status_code == 404, name
        assert b"31 metres" not in response.content
        seen += 1
    assert seen >= 14


def test_a_reader_may_look_but_not_change(client, addresses):
    reader = User.objects.create_user("reader")
    Membership.objects.create(corpus=Corpus.objects.get(), user=reader, role="reader")
    client.force_login(reader)
    assert client.get(addresses["document"]).status_code == 200
    assert b'type="file"' not in client.get(addresses["corpus"]).content
    for name in ("corpus-upload", "document-retry", "document-delete"):
        assert client.post(addresses[name]).status_code == 403, name


def test_another_persons_conversation_is_not_found_by_a_fellow_reader(client, addresses):
    fellow = User.objects.create_superuser("fellow")
    client.force_login(fellow)
    private = [name for name in addresses if name.startswith(("conversation", "turn")) and name != "conversations"]
    assert len(private) == 12
    for name in private:
        assert visit(client, name, addresses[name]).status_code == 404, name


def test_leaving_a_corpus_takes_its_conversations_along(client, addresses, owner):
    owner.membership_set.all().delete()
    client.force_login(owner)
    assert client.get(addresses["conversation"]).status_code == 404
    assert b"Why?" not in client.get("/corpora/").content


def test_every_page_has_its_headers(client, addresses, owner):
    client.force_login(owner)
    for name, address in addresses.items():
        if name in ("document-page", "document-boxes", "logout"):
            continue  # the bytes are no PDF here; see test_pages_viewer
        response = visit(client, name, address)
        assert response.status_code in (200, 302, 400, 404), (name, response.status_code)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, name
        assert "unsafe" not in policy, name
        assert response.headers["X-Content-Type-Options"] == "nosniff", name
        assert response.headers["X-Frame-Options"] == "DENY", name


def test_no_page_has_inline_scripts_or_styles(client, addresses, owner):
    client.force_login(owner)
    for name, address in addresses.items():
        response = visit(client, name, address)
        if response.status_code == 200 and "html" in response.headers.get("Content-Type", ""):
            html = response.content.decode()
            assert " style=" not in html and "<style" not in html, name
            assert "onclick" not in html and "javascript:" not in html, name
            assert "<script" not in html.replace("<script src=", "").replace('<script type="module" src=', ""), name


def test_an_unknown_address_and_a_fault_have_pages_of_their_own(client, owner, monkeypatch):
    client.force_login(owner)
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert b"There is nothing at this address" in response.content

    def broken(user):
        raise RuntimeError("a fault")

    monkeypatch.setattr("indexer.views.corpora.visible_corpora", broken)
    client.raise_request_exception = False
    response = client.get("/corpora/")
    assert response.status_code == 500
    assert b"A fault of ours" in response.content
    assert b"RuntimeError" not in response.content
