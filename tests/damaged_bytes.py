"""Content of files with random damage."""

from hypothesis import strategies as st


def damages():
    """Draw one to four flips, cuts, insertions, repetitions or overwritings."""
    places = st.floats(0, 1, exclude_max=True)
    change = st.tuples(
        st.sampled_from(["bit", "byte", "cut", "end", "insert", "repeat", "copy"]),
        places,
        places,
        st.binary(min_size=1, max_size=12),
    )
    return st.lists(change, min_size=1, max_size=4)


def damaged(content, changes):
    """Return content after some of these."""
    for change in changes:
        content = _change(content, *change)
    return content


def _change(content, kind, first, second, new):
    at, length = int(first * len(content)), 1 + int(second**4 * 64)
    head, tail = content[:at], content[at:]
    part, other = tail[:length], content[int(second * len(content)) :]
    return {
        "bit": head + bytes([(tail or b"\0")[0] ^ (1 << new[0] % 8)]) + tail[1:],
        "byte": head + new[:1] + tail[1:],
        "cut": head + tail[length:],
        "end": head,
        "insert": head + new + tail,
        "repeat": head + part + tail,
        "copy": head + other[: len(part)] + tail[length:],
    }[kind]
