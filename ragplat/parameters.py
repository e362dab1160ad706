"""Reading what a browser sends."""

LONGEST = 18  # digits: more do not fit PostgreSQL's bigint


def whole_number(text: str) -> int | None:
    """A non-negative whole number in plain digits; None for anything else, such as "²", "-1" or 5,000 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST else None


def whole_numbers(text: str, most: int) -> list[int]:
    """The first ``most`` numbers of a comma-separated list; what is no number is passed over."""
    found = (whole_number(one) for one in text.split(",")[:most])
    return [number for number in found if number is not None]
