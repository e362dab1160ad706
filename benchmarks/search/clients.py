"""One process of clients: several threads that search for some seconds, at a sign from outside.

Needs nothing but Python: it runs in the environments of the peers too. Says "ready" on standard output, begins when it
reads a line, prints one line of JSON, and ends when standard input is closed.
"""

import json
import sys
import threading
import time
from collections.abc import Callable

K = 10  # results of a search
JUDGED = 200  # questions that recall is of
Search = Callable[[str], list[int]]  # a question to the rows found, best first


def serve(open_search: Callable[[], Search], questions: list[str], threads: int, seconds: float) -> None:
    """Run ``threads`` clients, each with a search of its own, and print the time of every search.

    What was found is that of the first questions, asked before: in the time given, a faster search gets to other
    questions than a slower one, and some are harder. An exception in a client ends all of them: a failing search must
    not look like a fast one.
    """
    clients = [Client(open_search(), questions, number * len(questions) // threads) for number in range(threads)]
    found = [clients[0].search(question) for question in questions[:JUDGED]]
    for client in clients:
        client.run(until=0)
        if client.error:
            raise client.error
        client.times.clear()
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    end = started + seconds
    workers = [threading.Thread(target=client.run, args=(end,)) for client in clients]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed := [client.error for client in clients if client.error]:
        raise failed[0]
    elapsed = time.perf_counter() - started  # the last searches end after the time given
    times = [one for client in clients for one in client.times]
    print(json.dumps({"times": times, "elapsed": elapsed, "found": found}), flush=True)
    sys.stdin.read()


class Client:
    """Asks one question after the other, beginning at ``first``."""

    def __init__(self, search: Search, questions: list[str], first: int):
        self.search, self.questions, self.next = search, questions, first
        self.times: list[float] = []
        self.error: Exception | None = None

    def run(self, until: float) -> None:
        """Search until this moment of time.perf_counter(), but once at least."""
        try:
            while True:
                number = self.next % len(self.questions)
                began = time.perf_counter()
                self.search(self.questions[number])
                self.times.append(time.perf_counter() - began)
                self.next += 1
                if time.perf_counter() >= until:
                    return
        except Exception as error:
            self.error = error
