"""`manage.py demo`: a corpus to try things on, made of this project's own documentation."""

from django.core.management import BaseCommand

from indexer import corpora
from indexer.ingest import ingest_paths
from indexer.models import Corpus
from ragplat.paths import BASE_DIR


class Command(BaseCommand):
    help = "Make the demo corpus from README.md and docs/, or bring it up to date."

    def handle(self, *args, **options):
        corpus = Corpus.objects.filter(slug="demo").first()
        if corpus is None:
            corpus = corpora.create("Ragplat documentation", slug="demo")
        paths = [*BASE_DIR.glob("*.md"), *BASE_DIR.glob("docs/**/*.md")]
        ingest_paths(corpus, sorted(paths), root=BASE_DIR)
