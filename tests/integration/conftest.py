"""What the tests of pages share: a signed-in person and a corpus of theirs."""

import shutil

import pytest
from django.contrib.auth.models import User

from indexer import embedder, fsck
from tests.jobs import clear_jobs
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


@pytest.fixture
def toy_platform(transactional_db, settings, toy_embedding_service):
    """The toy embedder, and nothing of earlier tests: Django empties tables, but no partitions, folders or queues."""
    settings.EMBED_URL, settings.EMBED_MODEL = toy_embedding_service, "hashing"
    embedder._client.cache_clear()
    clear_jobs()
    for folder in ("files", "followers"):
        shutil.rmtree(settings.VAR_DIR / folder, ignore_errors=True)
    for finding in fsck.examine():
        finding.mend()
    yield
    embedder._client.cache_clear()
