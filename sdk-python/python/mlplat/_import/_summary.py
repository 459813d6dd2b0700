"""What an import is to do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Wish:
    """What to import, and how."""

    experiments: tuple[str, ...] = ()
    """Only these; empty means all."""
    artifacts: bool = True
    deleted: bool = False
    dry_run: bool = False


@dataclass
class Summary:
    """What was done."""

    experiments: int = 0
    runs: int = 0
    unchanged: int = 0
    left_out: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something that the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def fail(self, text: str) -> None:
        """Something of the source that is not in mlplat now, once."""
        if text not in self.errors:
            self.errors.append(text)
