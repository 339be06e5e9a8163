"""Which of the sets that have to be downloaded lie on this machine; nothing of them is read."""

from dataclasses import dataclass
from pathlib import Path

from cltools.datasets.tinyimagenet import ARCHIVE

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Stored:
    """Where a set's parts lie below the data root.

    Attributes:
        archive: as it is downloaded.
        unpacked: the folder that it unpacks to.
        tree: a folder of picture files that is read in its place; None where there is none.
    """

    archive: str
    unpacked: str
    tree: str | None

    def splits(self, root: Path) -> list[str]:
        """Splits that lie there as picture files."""
        return [split for split in SPLITS if self.tree is not None and (root / self.tree / split).is_dir()]

    def parts(self, root: Path) -> list[str]:
        """What is there, in the order in which it is looked for, in words."""
        splits = self.splits(root)
        found = [f"folder tree ({', '.join(splits)})"] if splits else []
        found += [f"unpacked ({self.unpacked})"] if (root / self.unpacked).is_dir() else []
        return found + ([f"archive ({self.archive})"] if (root / self.archive).is_file() else [])

    def whole(self, root: Path) -> bool:
        """Whether both splits can be loaded without a download."""
        return self.splits(root) == [*SPLITS] or (root / self.unpacked).is_dir() or (root / self.archive).is_file()


STORED = {  # CIFAR's names are torchvision's, which is not imported to look whether a file is there
    "cifar10": Stored("cifar-10-python.tar.gz", "cifar-10-batches-py", "cifar10"),
    "cifar100": Stored("cifar-100-python.tar.gz", "cifar-100-python", "cifar100"),
    "tinyimagenet": Stored(ARCHIVE.file, ARCHIVE.folder, None),
}
