"""The arithmetic of the elliptic curve P-256 that checks a private key. Rule HOST-6.

Source: FIPS 186-4, D.1.2.3; the formulas are those of Jacobian coordinates with a = -3. Its time
depends on the secret number, so it is used only for a key that is read from a file at start (2 ms),
never for a signature.
"""

from typing import Final

FIELD: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def public_point(private: int) -> tuple[int, int]:
    """The base point times this number, which is between 1 and ORDER - 1: double and add."""
    base_x, base_y = BASE
    x, y, z = base_x, base_y, 1
    for bit in f"{private:b}"[1:]:
        square, y_square = z * z % FIELD, y * y % FIELD
        beta = x * y_square % FIELD
        alpha = 3 * (x - square) * (x + square) % FIELD
        x = (alpha * alpha - 8 * beta) % FIELD
        z = 2 * y * z % FIELD
        y = (alpha * (4 * beta - x) - 8 * y_square * y_square) % FIELD
        if bit == "1":
            square = z * z % FIELD
            width = (base_x * square - x) % FIELD
            height = (base_y * z * square - y) % FIELD
            width_square = width * width % FIELD
            width_cube, corner = width * width_square % FIELD, x * width_square % FIELD
            x = (height * height - width_cube - 2 * corner) % FIELD
            y = (height * (corner - x) - y * width_cube) % FIELD
            z = z * width % FIELD
    inverse = pow(z, -1, FIELD)
    return x * inverse**2 % FIELD, y * inverse**3 % FIELD
