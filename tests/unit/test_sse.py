"""The lines of an event stream, however they arrive."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.generators import background
from inference.generators.sse import Chunks, StreamError


class Response:
    """A response of the client whose body comes in these pieces."""

    def __init__(self, pieces: list[bytes]):
        self.pieces = pieces

    async def iter_bytes(self):
        for piece in self.pieces:
            yield piece


def read(*pieces: bytes) -> list[dict]:
    async def everything() -> list[dict]:
        return [chunk async for chunk in Chunks(Response(list(pieces)))]

    return background.run(everything())  # a browser test may have left a loop running in this thread


TEXTS = ["And\u2028so\x85on\u2029 [1].", "光的折射", 'a "b"\x0b\x1c', "é" * 40]
BODY = "".join(f"data: {json.dumps({'text': text}, ensure_ascii=False)}\r\n\r\n" for text in TEXTS) + "data: [DONE]\n\n"


@given(st.lists(st.integers(0, len(BODY.encode())), max_size=12))
def test_chunks_are_the_same_wherever_the_pieces_are_cut(places):
    body = BODY.encode()
    marks = [0, *sorted(places), len(body)]
    pieces = [body[start:end] for start, end in pairwise(marks)]
    assert [chunk["text"] for chunk in read(*pieces)] == TEXTS


def test_comments_events_and_a_byte_order_mark_are_passed_over():
    assert read(b'\xef\xbb\xbfdata: {"n": 1}\n\n: ping\n\nevent: x\ndata:{"n": 2}') == [{"n": 1}, {"n": 2}]


def test_an_error_in_the_middle_is_told():
    with pytest.raises(StreamError, match="out of memory"):
        read(b'data: {"n": 1}\n\ndata: {"error": {"message": "out of memory"}}\n\n')
    with pytest.raises(ValueError, match="no object"):
        read(b"data: 7\n\n")
