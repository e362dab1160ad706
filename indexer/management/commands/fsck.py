"""`manage.py fsck [CORPUS]`: proof that chunks, vectors, followers and files agree; with --repair, until they do."""

import sys
from collections.abc import Iterator

from django.core.management import BaseCommand
from django.db import DatabaseError
from tqdm import tqdm

from indexer.corpora import named
from indexer.fsck import Finding, examine
from ragplat.errors import RagplatError
from ragplat.printing import printable, to_json


class Command(BaseCommand):
    help = (
        "Examine a corpus, or everything: names what is wrong, with its cure. Exit code 1 if something is and was not "
        "repaired."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "corpus", nargs="?", default="", help="Short name of a corpus (default: all, and the disk)."
        )
        parser.add_argument(
            "--repair", action="store_true", help="Mend what is derived from something else; no document is deleted."
        )
        parser.add_argument("--bytes", action="store_true", help="Also read every stored file and compare its hash.")
        parser.add_argument("--json", action="store_true", help="Print the findings as JSON.")

    def handle(self, *args, corpus, repair, bytes, json: bool, **options):
        found = examine(named(corpus) if corpus else None, read_bytes=bytes)
        with tqdm(found, unit=" findings", disable=None, file=sys.stderr) as bar:
            listed = list(self._each(bar, repair, quiet=json))
        left = [one for one in listed if not one["repaired"]]
        if json:
            self.stdout.write(to_json(listed, indent=1))
        elif not listed:
            self.stdout.write("Everything agrees.")
        elif left:
            mendable = sum(one["repairable"] for one in left)
            self.stdout.write(f"{len(left)} findings." + (f" `--repair` mends {mendable}." if mendable else ""))
        else:
            self.stdout.write(f"{len(listed)} findings, all repaired. The worker does what was queued.")
        if left:
            sys.exit(1)

    def _each(self, found: Iterator[Finding], repair: bool, quiet: bool) -> Iterator[dict]:
        for one in found:
            how, mended = one.cure, False
            if repair and one.mend is not None:
                try:
                    one.mend()
                    mended = True
                except (RagplatError, DatabaseError, OSError) as error:
                    how = f"This did not work: {error}"
            if not quiet:
                self.stdout.write(printable(f"{one.where}: {one.what}\n  {'Repaired: ' if mended else ''}{how}"))
            known = {"where": one.where, "what": one.what, "cure": how}
            yield known | {"repairable": one.mend is not None, "repaired": mended}
