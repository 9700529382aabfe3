"""What is wrong with a file, in one line: shared by every reader and by `affectcore data check`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One broken rule: in which file, field and row (0-based, None where it concerns the whole), and what helps."""

    file: str
    field: str
    rule: str
    value: str = ""
    row: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = self.field if self.row is None else f"{self.field} row {self.row}"
        found = f", found {self.value}" if self.value else ""
        return f"{self.file}: {where} {self.rule}{found}" + (f"; {self.hint}" if self.hint else "")
