"""What the tests of pages share: a signed-in person and a corpus of theirs."""

import pytest
from django.contrib.auth.models import User

from tests.rows import make_corpus, plain_static


@pytest.fixture(autouse=True)
def _static(settings):
    plain_static(settings)


@pytest.fixture
def user(client, db):
    made = User.objects.create_user("ada")
    client.force_login(made)
    return made


@pytest.fixture
def corpus(user):
    return make_corpus("harbour", user, title="Harbour")
