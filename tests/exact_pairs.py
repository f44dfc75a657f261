"""Eigenpairs with fifty digits, by Newton's method on the bordered system of a pair."""

import mpmath

DIGITS, STEPS = 50, 12


def exact_pair(A, B, value, right):
    """Return value, right and left vector, plain y^T B x = 1, next to a pair, or None.

    The border is the right vector as given; at the last step corrections are below 1e-30.
    """
    n = len(A)
    with mpmath.workdps(DIGITS):
        A, B = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
        value, x = mpmath.mpc(complex(value)), mpmath.matrix([complex(item) for item in right])
        border = x.H / (x.H * x)[0]
        try:
            for _ in range(STEPS):
                bordered = _bordered(A - value * B, -(B * x), border)
                rest = _stacked(-((A - value * B) * x), 1 - (border * x)[0])
                step = mpmath.lu_solve(bordered, rest)
                x, value = x + step[:n, 0], value + step[n]
                if mpmath.norm(step) < mpmath.mpf(10) ** -30 * (mpmath.norm(x) + abs(value)):
                    break
            else:
                return None
            bordered = _bordered(A - value * B, B * x, border)
            left = mpmath.lu_solve(bordered.T, _stacked(mpmath.zeros(n, 1), mpmath.mpf(1)))
        except ZeroDivisionError:
            return None
        return value, x, left[:n, 0]


def _bordered(K, column, row):
    n = K.rows
    found = mpmath.zeros(n + 1)
    found[:n, :n], found[:n, n], found[n, :n] = K, column, row
    return found


def _stacked(column, last):
    found = mpmath.zeros(column.rows + 1, 1)
    found[: column.rows, 0], found[column.rows, 0] = column, last
    return found


def exact_slope(y, slope, x):
    """Return y^T slope x with fifty digits."""
    with mpmath.workdps(DIGITS):
        return (y.T * mpmath.matrix(slope.tolist()) * x)[0]
