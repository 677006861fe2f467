"""Is a wheel complete, small and stripped?  ``python check_wheel.py *.whl`` in the tree."""

import sys
import zipfile
from pathlib import Path

LIMIT = 2_500_000  # bytes unpacked, without the data set and the wings
LIMIT_COMPILED = 1_800_000
# to download: all, and what of it is the core's
LIMIT_DOWNLOAD, LIMIT_CORE_DOWNLOAD = 1_370_000, 1_150_000
# what the core does not know, and nobody must import
WINGS = tuple(
    f"fastnn/{name}/"
    for name in (
        "commands",
        "export",
        "keras",
        "looking",
        "mpi",
        "onnx",
        "plot",
        "sklearn",
        "torch",
    )
)
COMPILED = {"_kernels", "_openmp"} if sys.platform == "linux" else {"_kernels"}


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        packed = {info.filename: info.compress_size for info in archive.infolist()}
        compiled = [name for name in sizes if name.endswith((".so", ".pyd", ".dylib"))]
        binaries = b"".join(archive.read(name) for name in compiled)
    package = [
        p for p in Path("fastnn").rglob("*") if p.is_file() and p.suffix not in (".so", ".pyc")
    ]
    missing = {path.as_posix() for path in package} - sizes.keys()
    strange = [n for n in sizes if not n.startswith("fastnn/") and ".dist-info/" not in n]
    licences = [name for name in sizes if name.endswith("/LICENSE")]
    core = [name for name in sizes if not name.endswith(".npz") and not name.startswith(WINGS)]
    size, unpacked = sum(sizes[name] for name in core), sum(sizes.values())
    download, core_download = Path(wheel).stat().st_size, sum(packed[name] for name in core)
    debug = [s for s in (b".debug_info", b".symtab") if s in binaries]
    print(
        f"{Path(wheel).name}: {len(sizes)} files, {unpacked:,} bytes, of which {size:,} are the "
        f"core's and {len(binaries):,} compiled; to download {download:,}, "
        f"{core_download:,} of the core"
    )
    problems = {
        "files missing": sorted(missing),
        "files that do not belong": strange,
        f"compiled modules expected: {', '.join(sorted(COMPILED))}": sorted(
            {Path(name).name.split(".")[0] for name in compiled} ^ COMPILED
        ),
        "no licence": [] if licences else ["LICENSE"],
        f"the core has {LIMIT:,} bytes or more": [size] if size >= LIMIT else [],
        f"compiled, {LIMIT_COMPILED:,} or more": (
            [len(binaries)] if len(binaries) >= LIMIT_COMPILED else []
        ),
        f"to download, {LIMIT_DOWNLOAD:,} or more": [download]
        if download >= LIMIT_DOWNLOAD
        else [],
        f"of the core to download, {LIMIT_CORE_DOWNLOAD:,} or more": [core_download]
        if core_download >= LIMIT_CORE_DOWNLOAD
        else [],
        "not stripped": debug,
    }
    if any(problems.values()):
        sys.exit("\n".join(f"{what}: {which}" for what, which in problems.items() if which))


if __name__ == "__main__":
    main(sys.argv[1])
