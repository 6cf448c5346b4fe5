"""The doctor's round: every split is opened and looked at, every check is made, and a verdict is reached."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.data.base import FaceDataset, all_faults
from common.data.doctor import checks
from common.data.doctor.checks import Fault
from common.data.doctor.look import Look, looks, reference_shape
from common.errors import LabError

SPLITS = ("train", "val", "test")
REPORT = 2.0  # seconds between two lines of progress


@dataclass
class Report:
    """What the doctor found: `lines` say what was looked at, `faults` what is wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was found that speaks against using the set."""
        return not any(fault.fatal for fault in self.faults)

    def text(self, most: int | None = None) -> str:
        """Return the report, with at most so many faults of each kind, and the verdict as its last line."""
        lines = list(self.lines)
        for kind, count in Counter(fault.kind for fault in self.faults).items():
            of_kind = [fault for fault in self.faults if fault.kind == kind]
            lines += [f"{'fault' if f.fatal else 'note'}: {kind}: {f.text}" for f in of_kind[:most]]
            if most is not None and count > most:
                lines.append(f"... and {count - most} more of {kind}; --all lists them")
        fatal = Counter(fault.kind for fault in self.faults if fault.fatal)
        notes = len(self.faults) - fatal.total()
        found = ", ".join(f"{count} {kind}" for kind, count in fatal.items())
        verdict = f"{fatal.total()} faults ({found})" if fatal else "sound"
        return "\n".join([*lines, f"verdict: {verdict}" + (f", {notes} notes" if notes else "")])


def examine(
    name: str,
    open_split: Callable[[str], FaceDataset],
    splits: Sequence[str] = SPLITS,
    workers: int | None = None,
    quiet: bool = False,
) -> Report:
    """Look at all faces of a set.

    Args:
        name: of the data set, as `--data.dataset` takes it.
        open_split: returns a split's faces.
        splits: which of train, val and test to look at.
        workers: processes that read pictures; None for one a core.
        quiet: print no progress.

    Returns:
        The report; it is sound where no fault was found.
    """
    report, seen = Report(), dict[str, list[Look]]()
    for split in splits:
        _split(report, seen, name, split, open_split, workers, quiet)
    for split in seen:
        same = [look.id for look in seen[split]] == [look.id for look in seen.get("train", [])]
        if split != "train" and "train" in seen and not same:
            report.faults += checks.twins(seen["train"], seen[split], split)
    return report


def _split(
    report: Report,
    seen: dict[str, list[Look]],
    name: str,
    split: str,
    open_split: Callable[[str], FaceDataset],
    workers: int | None,
    quiet: bool,
) -> None:
    """Open and look at one split; add what is found to the report and to `seen`."""
    try:
        with all_faults() as listed:
            faces = open_split(split)
        report.faults += [Fault("annotation", text) for text in listed]
        own = faces.name.rpartition("/")[2]
        if not len(faces):
            report.faults.append(Fault("annotation", f"{split}: no face is left to look at"))
            return
        reference = reference_shape(faces)
    except LabError as error:
        report.faults.append(Fault("annotation", str(error)))
        return
    found = list(looks(faces, reference, workers, _progress(f"{name} {split}", len(faces), quiet)))
    report.faults += [Fault("unreadable", text) for text in found if isinstance(text, str)]
    whole = [face for face in found if isinstance(face, Look)]
    if split == "test" and [face.id for face in whole] == [face.id for face in seen.get("val", [])]:
        report.lines.append(f"{split}: the same {len(whole)} faces as val")
        return
    seen[split] = whole
    base, compared = checks.index_base(name, whole)
    subsets = Counter(subset for face in whole for subset in face.subsets)
    listed_subsets = f" ({', '.join(f'{key} {count}' for key, count in subsets.items())})" if subsets else ""
    shift = f"index base compared in {compared} known faces" if compared else "index base: no known face to compare"
    report.lines.append(f"{split}: {len(whole)} faces{listed_subsets}, {len(faces.scheme.names)} landmarks; {shift}")
    report.faults += (
        checks.counts(name, own if "/" in faces.name else split, whole)
        + base
        + checks.boxes(whole)
        + checks.outside(whole)
    )
    report.faults += checks.shapes(whole, reference, faces.scheme, split) + checks.fit_to_pictures(whole, split)
    report.faults += checks.repeated(whole, split)


def _progress(title: str, count: int, quiet: bool) -> Callable[[], None]:
    done, start, last = 0, time.monotonic(), time.monotonic()

    def tick() -> None:
        nonlocal done, last
        done += 1
        if not quiet and (done == count or time.monotonic() - last > REPORT):
            last = time.monotonic()
            end = "\n" if done == count else ""
            print(f"\r{title}: {done}/{count} faces, {done / max(last - start, 1e-9):.0f} a second",
                  end=end, file=sys.stderr, flush=True)  # fmt: skip

    return tick


def manifest(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path there."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_manifest(root: Path, path: Path) -> tuple[str, list[Fault]]:
    """Compare a folder with a manifest (lines "SHA-256  PATH", as `sha256sum` writes them), or write it anew.

    Raises:
        LabError: a line of the manifest is wrong.
    """
    now = {name: value for name, value in manifest(root).items() if (root / name).resolve() != path.resolve()}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{value}  {name}\n" for name, value in now.items()), encoding="utf-8")
        return f"manifest: {len(now)} files written to {path}", []
    then: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        value, mark, file = line.partition("  ")
        if not mark or len(value) != 64:
            raise LabError(f"{path}:{number}: expected 'SHA-256  PATH', got '{line[:40]}'; remove it to write it anew")
        then[file] = value
    words = [(name, "is missing") for name in then.keys() - now.keys()]
    words += [(name, "is not in the manifest") for name in now.keys() - then.keys()]
    words += [(name, "has changed") for name in now.keys() & then.keys() if now[name] != then[name]]
    faults = [Fault("manifest", f"{root / name}: {text}") for name, text in sorted(words)]
    return f"manifest: {len(now)} files compared with {path}", faults
