"""Is a wheel complete, small and stripped?  ``python check_wheel.py *.whl`` in the tree."""

import sys
import zipfile
from pathlib import Path

LIMIT = 2_500_000  # bytes unpacked, without the data set
LIMIT_DOWNLOAD = 1_200_000
COMPILED = {"_kernels", "_openmp"} if sys.platform == "linux" else {"_kernels"}


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        compiled = [name for name in sizes if name.endswith((".so", ".pyd", ".dylib"))]
        binaries = b"".join(archive.read(name) for name in compiled)
    package = [
        p for p in Path("fastnn").rglob("*") if p.is_file() and p.suffix not in (".so", ".pyc")
    ]
    missing = {path.as_posix() for path in package} - sizes.keys()
    strange = [n for n in sizes if not n.startswith("fastnn/") and ".dist-info/" not in n]
    licences = [name for name in sizes if name.endswith("/LICENSE")]
    size = sum(size for name, size in sizes.items() if not name.endswith(".npz"))
    download = Path(wheel).stat().st_size
    debug = [s for s in (b".debug_info", b".symtab") if s in binaries]
    print(
        f"{Path(wheel).name}: {len(sizes)} files, {size:,} bytes without the data set, of which "
        f"{len(binaries):,} are compiled; {download:,} to download"
    )
    problems = {
        "files missing": sorted(missing),
        "files that do not belong": strange,
        f"compiled modules expected: {', '.join(sorted(COMPILED))}": sorted(
            {Path(name).name.split(".")[0] for name in compiled} ^ COMPILED
        ),
        "no licence": [] if licences else ["LICENSE"],
        f"larger than {LIMIT:,} bytes": [size] if size >= LIMIT else [],
        f"to download, {LIMIT_DOWNLOAD:,} or more": [download]
        if download >= LIMIT_DOWNLOAD
        else [],
        "not stripped": debug,
    }
    if any(problems.values()):
        sys.exit("\n".join(f"{what}: {which}" for what, which in problems.items() if which))


if __name__ == "__main__":
    main(sys.argv[1])
