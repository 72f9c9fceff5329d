"""Shop names in a block font of 3 by 5 cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GLYPHS = {
    "A": "25755", "B": "65656", "C": "34443", "D": "65556", "E": "74647", "F": "74644", "G": "34553", "H": "55755",
    "I": "72227", "J": "11152", "K": "55655", "L": "44447", "M": "57755", "N": "57775", "O": "25552", "P": "65644",
    "Q": "25563", "R": "65655", "S": "34216", "T": "72222", "U": "55557", "V": "55552", "W": "55775", "X": "55255",
    "Y": "55222", "Z": "71247", " ": "00000",
}  # fmt: skip

SHOP_NAMES = (
    "CAFE", "BAKERY", "BOOKS", "PIZZA", "BANK", "PHARMACY", "FLORIST", "GRILL", "BARBER", "TEA ROOM", "OPTICIAN",
    "NOODLES", "TAILOR", "SHOES", "HOTEL", "THE CROWN", "RED LION", "POST", "MARKET", "DELI", "TOYS", "CYCLES",
    "MUSIC", "RECORDS", "DENTIST", "GROCER", "BUTCHER", "FISH BAR", "CURRY", "KEBAB", "LAUNDRY", "STATIONER",
    "ANTIQUES", "JEWELLER", "THE SWAN", "HARDWARE", "CLINIC", "SUSHI", "TAVERN", "GALLERY",
)  # fmt: skip

ROWS = 5
COLUMNS_PER_LETTER = 4
"""Three cells and a space."""


def _columns(name: str) -> NDArray[np.uint8]:
    columns = np.zeros(COLUMNS_PER_LETTER * len(name), dtype=np.uint8)
    for position, letter in enumerate(name):
        for row, digit in enumerate(_GLYPHS[letter]):
            for column in range(3):
                if int(digit) >> (2 - column) & 1:
                    columns[COLUMNS_PER_LETTER * position + column] |= 1 << row
    return columns


LENGTHS = np.array([COLUMNS_PER_LETTER * len(name) - 1 for name in SHOP_NAMES], dtype=np.int32)
"""Number of columns of each name."""

BITS = np.zeros((len(SHOP_NAMES), int(LENGTHS.max()) + 2), dtype=np.uint8)
"""For each name and column, bit r is set if row r (0 on top) is painted; there is one empty column at each end."""
for _number, _name in enumerate(SHOP_NAMES):
    BITS[_number, 1 : 1 + LENGTHS[_number]] = _columns(_name)[: LENGTHS[_number]]
