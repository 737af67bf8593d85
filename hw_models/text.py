"""Plain text tables."""

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """`rows` in aligned columns, the first `left` of them set to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
