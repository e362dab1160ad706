import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.embedding.wire import MAX_REQUEST_TOKENS, ErrorType, Rejected, pack, unpack

LIMITS = {"vocabulary": 100, "max_tokens": 8}


def body(*numbers: int) -> bytes:
    return np.asarray(numbers, dtype="<i4").tobytes()


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=8), min_size=1))
def test_what_is_packed_is_unpacked(ids):
    received = unpack(pack([np.asarray(text, dtype=np.int32) for text in ids]), **LIMITS)
    assert [text.tolist() for text in received] == ids
    assert all(text.dtype == np.int32 for text in received)


def test_the_layout_is_fixed():
    assert pack([np.asarray([5, 6], np.int32), np.asarray([7], np.int32)]) == body(2, 2, 1, 5, 6, 7)


@pytest.mark.parametrize("sent, error_type, status, message", [
    (b"", ErrorType.MALFORMED, 400, "0 bytes"),
    (b"abcde", ErrorType.MALFORMED, 400, "5 bytes"),
    (body(0), ErrorType.EMPTY, 400, "no texts"),
    (body(2, 1), ErrorType.MALFORMED, 400, "2 texts are announced, but only 1 numbers"),
    (body(-1, 1, 1), ErrorType.MALFORMED, 400, "4294967295 texts"),
    (body(1, 0), ErrorType.EMPTY, 400, "Text 0 has 0 tokens"),
    (body(2, 1, -1, 5), ErrorType.MALFORMED, 400, "Text 1 has -1 tokens"),
    (body(1, 2, 5), ErrorType.MALFORMED, 400, "add up to 2 tokens, but 1"),
    (body(1, 1, 5, 5), ErrorType.MALFORMED, 400, "add up to 1 tokens, but 2"),
    (body(3, 2**31 - 1, 2**31 - 1, 2, 1), ErrorType.MALFORMED, 400, "add up to 4294967296 tokens"),
    (body(1, 9, *[1] * 9), ErrorType.TOO_LONG, 422, "Text 0 has 9 tokens; at most 8"),
    (body(1, 1, 100), ErrorType.INVALID_ID, 422, "Token id 100 is outside the vocabulary 0..99"),
    (body(1, 1, -1), ErrorType.INVALID_ID, 422, "Token id -1"),
    (body(MAX_REQUEST_TOKENS + 1, *[1] * 2 * (MAX_REQUEST_TOKENS + 1)), ErrorType.TOO_LARGE, 413, "in one request"),
])  # fmt: skip
def test_wrong_requests_are_told_apart(sent, error_type, status, message):
    with pytest.raises(Rejected, match=message) as refused:
        unpack(sent, **LIMITS)
    assert (refused.value.error_type, refused.value.status) == (error_type, status)


@given(st.binary(max_size=80) | st.lists(st.integers(-2, 9), max_size=12).map(lambda numbers: body(*numbers)))
def test_any_bytes_are_read_or_refused(sent):
    try:
        ids = unpack(sent, **LIMITS)
    except Rejected:
        return
    assert pack(ids) == sent
