"""What a rich table holds, without its borders."""


def cells(table):
    """The rows of a table as lists of stripped text, titles of its sections among them."""
    return [
        [str(cell).strip() for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)
    ]


def row(table, name, section=0):
    """The cells beside a name in the first column, where it comes for the n-th time."""
    return [cells_of_row[1:] for cells_of_row in cells(table) if cells_of_row[0] == name][section]
