"""Who may do what: one function decides, and what is not yours does not exist for you."""

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.access import ROLES, corpus_for, document_for, visible_corpora
from indexer.corpora import recipe_named
from indexer.models import Corpus, Document, Membership, Recipe
from ragplat.errors import NotFound, Refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def recipe(db):
    return recipe_named(Recipe.Kind.ANSWER, "default")


def make_corpus(slug: str, recipe) -> Corpus:
    return Corpus.objects.create(slug=slug, title=slug, answer_recipe=recipe)


def test_a_stranger_and_nobody_get_the_same_answer(recipe):
    make_corpus("private", recipe)
    stranger = User.objects.create_user("stranger")
    messages = []
    for user, slug in ((stranger, "private"), (AnonymousUser(), "private")):
        with pytest.raises(NotFound) as caught:
            corpus_for(user, slug)
        messages.append(str(caught.value))
    with pytest.raises(NotFound) as caught:
        corpus_for(stranger, "absent")
    assert set(messages) == {str(caught.value).replace("absent", "private")}


def test_a_reader_may_not_edit(recipe):
    corpus, user = make_corpus("c", recipe), User.objects.create_user("u")
    Membership.objects.create(corpus=corpus, user=user, role="reader")
    assert corpus_for(user, "c") == corpus
    with pytest.raises(Refused, match="editor"):
        corpus_for(user, "c", "editor")


def test_an_inactive_superuser_sees_nothing(recipe):
    make_corpus("c", recipe)
    assert not visible_corpora(User(username="x", is_superuser=True, is_active=False)).exists()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    grants=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["user", "group"]), st.sampled_from(ROLES)),
        max_size=5,
        unique_by=lambda grant: grant[:2],
    ),
    wanted=st.sampled_from(ROLES),
)
def test_a_person_sees_exactly_what_was_granted(recipe, grants, wanted):
    Corpus.objects.all().delete()
    User.objects.all().delete()
    Group.objects.all().delete()
    user, group = User.objects.create_user("u"), Group.objects.create(name="g")
    user.groups.add(group)
    corpora = [make_corpus(f"c{n}", recipe) for n in range(3)]
    documents = [Document.objects.create(corpus=c, name="d", sha256=str(n), size=1) for n, c in enumerate(corpora)]
    for number, to, role in grants:
        Membership.objects.create(corpus=corpora[number], role=role, **{to: user if to == "user" else group})
    for number, corpus in enumerate(corpora):
        roles = [role for n, _, role in grants if n == number]
        expected = any(ROLES.index(role) >= ROLES.index(wanted) for role in roles)
        assert visible_corpora(user, wanted).filter(pk=corpus.pk).exists() == expected
        for load in (
            lambda corpus=corpus: corpus_for(user, corpus.slug, wanted),
            lambda number=number: document_for(user, documents[number].pk, wanted),
        ):
            if expected:
                load()
            else:
                with pytest.raises(Refused if roles else NotFound):
                    load()
