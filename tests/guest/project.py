"""stead as it is installed on a host, on a disk of its own that a guest mounts at /opt/stead, with what tests run inside.

It is an environment of the guest's own Python: the agent's pinned requirements and a wheel of the present sources, compiled ahead
(the emulated processor is slow). It is made again whenever a source changes, in seconds; the image of the guest is not.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.guest.image import PROJECT_BYTES, Image, one_at_a_time, run
from tests.guest.recipe import PYTHON, CannotBuildError, cache
from tests.style.repository import ROOT, files

KEPT = 3
STEAD = "#!/opt/stead/bin/python\nfrom stead.cli import main\n\nmain()\n"
INSIDE = ("tests/guest/inside", "tests/crash", "tests/actuators")  # what tests run in the guest


def project(image: Image) -> Path:
    """The disk for this guest and these sources. CannotBuildError when its requirements can't be fetched."""
    with one_at_a_time(f"project-{image.recipe.suite}"):
        disk = cache() / f"project-{image.recipe.suite}-{_key()}"
        if not disk.exists():
            _make(image, disk)
        disk.touch()
        for old in sorted(cache().glob(f"project-{image.recipe.suite}-*"), key=lambda path: -path.stat().st_mtime)[KEPT:]:
            old.unlink()
    return disk


def _sources() -> list[Path]:
    folders = ("src/stead", "deploy", *INSIDE)
    named = [ROOT / "pyproject.toml", ROOT / "requirements/agent.txt", Path(__file__)]
    return named + [path for folder in folders for path in files(folder)]


def _key() -> str:
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _make(image: Image, disk: Path) -> None:
    python = PYTHON[image.recipe.suite]
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        folder = Path(name)
        prefix = folder / "stead"
        site = prefix / f"lib/python{python}/site-packages"
        shutil.copytree(_requirements(image), site)
        _install(folder, site)
        _environment(prefix)
        for each in INSIDE:
            shutil.copytree(ROOT / each, prefix / "suite" / each, ignore=shutil.ignore_patterns("__pycache__"))
        (prefix / "suite/tests/__init__.py").touch()
        shutil.copytree(ROOT / "deploy", prefix / "deploy")
        _compile(image, prefix)
        fresh = folder / "disk"
        run(
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-m",
            "0",
            "-d",
            str(prefix),
            str(fresh),
            f"{PROJECT_BYTES >> 10}k",
        )
        fresh.rename(disk)


def _requirements(image: Image) -> Path:
    """What the agent needs, for the guest's Python, as pinned; fetched once."""
    python = PYTHON[image.recipe.suite]
    pinned = ROOT / "requirements/agent.txt"
    kept = cache() / f"requirements-{python}-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    if not kept.exists():
        fresh = kept.with_suffix(".fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--require-hashes", "-r", str(pinned)]
        pip += ["--target", str(fresh), "--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
        done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise CannotBuildError(f"the requirements for Python {python} could not be fetched: {done.stderr.strip()[-300:]}")
        fresh.rename(kept)
    return kept


def _install(folder: Path, site: Path) -> None:
    """The wheel that people install, of these sources."""
    source = folder / "source"
    for path in [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")] + list(files("src")):
        (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source / path.relative_to(ROOT))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--no-compile", "--upgrade", "--target", str(site), str(wheel))


def _environment(prefix: Path) -> None:
    """What makes a folder an environment of the system's Python."""
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to("/usr/bin/python3")
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (prefix / "bin/stead").write_text(STEAD)
    (prefix / "bin/stead").chmod(0o755)


def _compile(image: Image, prefix: Path) -> None:
    """Compile all of it by the guest's own Python, at this machine's speed."""
    place = Path(tempfile.mkdtemp(prefix="stead-", dir=image.tree / "opt"))
    try:
        shutil.copytree(prefix, place / "stead", symlinks=True)
        inner = f"/opt/{place.name}/stead"
        argv = ["chroot", str(image.tree), "/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        run(*argv, "-s", inner, "-p", "/opt/stead", inner)
        shutil.rmtree(prefix)
        shutil.move(place / "stead", prefix)
    finally:
        shutil.rmtree(place)
