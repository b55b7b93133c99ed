"""Build step: compile the hot rooms with mypyc where that is possible; pyproject.toml says all the rest.

The same files run either way: a compiled module `x.cpython-….so` lies beside its `x.py` and Python imports the
former. The environment variable EVENTDB_COMPILE decides:

    auto   (default) compile when mypy, a C compiler and Python's headers are there; say in one line what was done
    1      compile, and let every failure end the build
    0      never compile

`python setup.py build_ext --inplace` is what `make build` runs: it puts the extension modules into the tree (through
the links eventdb/backends and eventdb/replay) and writes STAMP, the hash of every source they were made from.
tests/conftest.py and the Makefile compare it, so that compiled files never stand in for sources edited since.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent

# What every command passes through, compiled as one group so that calls between them are C calls. Rooms are globs: a
# new file in a hot room is compiled without being listed. Everything else (the CLI, asyncio glue, file threads) gains
# nothing measurable and stays interpreted.
HOT_ROOMS = (
    "eventdb/protocol/*.py",
    "eventdb/keyspace/**/*.py",
    "eventdb/pipeline/*.py",
    "eventdb/rdb/*.py",
    "eventdb/metrics/*.py",
    "eventdb/cluster/*.py",
    "eventdb/engine/*.py",
    "eventdb/scripting/*.py",
    "eventdb/commands/**/*.py",
    "eventdb/server/connection.py",
    "eventdb/replay/transaction.py",
    "eventdb/backends/assembler.py",
    "eventdb/backends/record.py",
    "eventdb/backends/quorum/hint_file.py",
    "eventdb/backends/quorum/segment_file.py",
    "eventdb/backends/quorum/window.py",
    "eventdb/backends/quorum/writer.py",
    "eventdb/backends/quorum/zone.py",
)
# The parts written in C, the second only where its system calls are: everything works without them.
C_FILES = (
    "eventdb/engine/plain_run.c",
    *(["eventdb/backends/quorum/zone_loop.c"] if sys.platform == "linux" else []),
)
C_HEADERS = (
    "eventdb/engine/plain_values.h",
    "eventdb/engine/plain_ranks.h",
    "eventdb/engine/plain_parts.h",
)
STAMP = ROOT / "build" / "compiled.sha256"
GENERATED = "build/mypyc"  # C files
BUILDING = {"bdist_wheel", "editable_wheel", "build", "build_ext", "develop", "install"}


def hot_files() -> list[str]:
    """The files to compile, relative to the root. A package's __init__.py stays interpreted: it only holds a page."""
    found = {name for pattern in HOT_ROOMS for name in glob.glob(pattern, root_dir=ROOT, recursive=True)}
    return sorted(name for name in found if not name.endswith("__init__.py"))


def source_hash() -> str:
    """One hash of what goes into the compiled files: the sources, this file and the interpreter's ABI."""
    digest = hashlib.sha256(str(sysconfig.get_config_var("SOABI")).encode())
    for name in [*hot_files(), *C_FILES, *C_HEADERS, "setup.py"]:
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def is_current() -> bool:
    """True when the extension modules in the tree were made from the sources as they are."""
    return bool(compiled_files()) and STAMP.exists() and STAMP.read_text() == source_hash()


def compiled_files() -> list[Path]:
    """Extension modules that lie in the tree now; the links are not followed twice."""
    return sorted(path for room in ("eventdb", "backends", "replay") for path in (ROOT / room).rglob("*.so"))


def remove_compiled() -> int:
    """Make the tree pure Python again; returns how many extension modules went."""
    files = compiled_files()
    for path in files:
        path.unlink(missing_ok=True)
    STAMP.unlink(missing_ok=True)
    return len(files)


def missing_for_compile() -> str:
    """What keeps this machine from compiling, in a few words; empty when nothing does."""
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return "mypy is not installed"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("#include <Python.h>\nint main(void) { return 0; }\n")
        command = [*compiler, "-I", include, "-c", str(probe), "-o", str(probe.with_suffix(".o"))]
        try:
            result = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            return f"no C compiler ({compiler[0]})"
    return "" if result.returncode == 0 else "the C compiler finds no Python headers"


def say(text: str) -> None:
    """One line that pip's -v and make show."""
    print(f"eventdb: {text}", file=sys.stderr, flush=True)


def generate() -> list:
    """Run mypyc over the hot rooms; returns the extension modules still to be compiled by the C compiler."""
    from mypyc.build import mypycify
    from setuptools import Extension

    files = hot_files()
    say(f"compiling {len(files)} modules with mypyc")
    # The group's library gets a name inside the package: nothing but `eventdb` may appear in site-packages.
    # An isolated build has none of the dependencies at hand, and judging types is the job of `make types`.
    lenient = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    modules = mypycify(
        [*lenient, *files],
        opt_level=os.environ.get("EVENTDB_OPT_LEVEL", "3"),
        debug_level=os.environ.get("EVENTDB_DEBUG_LEVEL", "0"),
        multi_file=True,  # a C file for each module, so that every core compiles: a sixth of the time one file takes
        group_name="eventdb.hot",
        target_dir=GENERATED,
    )
    for module in modules:
        # mypyc 2.4 puts a dotted group's header into a folder, and includes it as if it had not.
        module.include_dirs.append(f"{GENERATED}/eventdb")
        # Warnings of a compiler newer than mypyc are no reason to lose the build.
        module.extra_compile_args = [
            *(flag for flag in module.extra_compile_args if flag != "-Werror"),
            "-fvisibility=hidden",
        ]
    return modules + [
        Extension(name.removesuffix(".c").replace("/", "."), [name], depends=[*C_HEADERS]) for name in C_FILES
    ]


def extension_modules(mode: str) -> list:
    """The extension modules of this build; empty for a pure one."""
    if mode == "0" or not BUILDING.intersection(sys.argv[1:]):
        return []
    missing = missing_for_compile()
    if missing:
        if mode == "1":
            raise SystemExit(f"EVENTDB_COMPILE=1, but {missing}")
        say(f"pure Python build: {missing}")
        return []
    try:
        return generate()
    except SystemExit as error:  # how mypycify reports a file it cannot compile
        if mode == "1":
            raise
        say(f"pure Python build: mypyc could not compile the sources ({error})")
        return []


def compile_in_parallel(compiler: object) -> None:
    """Give the C compiler every source of an extension at once, one process for each core; setuptools takes turns."""
    one_by_one = compiler.compile

    def compile_all(sources: list[str], *args: object, **kwargs: object) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = pool.map(lambda source: one_by_one([source], *args, **kwargs), sources)
            return [name for names in objects for name in names]

    compiler.compile = compile_all


def commands(mode: str) -> dict:
    """build_ext that is all or nothing: without the group's library the modules beside it could not be imported."""
    from setuptools.command.build_ext import build_ext as plain_build_ext

    class build_ext(plain_build_ext):  # noqa: N801
        def build_extensions(self) -> None:
            compile_in_parallel(self.compiler)
            super().build_extensions()

        def run(self) -> None:
            made_from = source_hash()
            if self.inplace:
                remove_compiled()
            try:
                super().run()
            except Exception as error:
                if mode == "1":
                    raise
                say(f"pure Python build: the C compiler failed ({error})")
                self.extensions.clear()
                remove_compiled()
            if self.inplace and self.extensions:
                STAMP.parent.mkdir(exist_ok=True)
                STAMP.write_text(made_from)

    return {"build_ext": build_ext}


def main() -> None:
    from setuptools import setup

    os.chdir(ROOT)
    mode = os.environ.get("EVENTDB_COMPILE", "auto")
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"EVENTDB_COMPILE={mode}: must be auto, 0 or 1")
    if "--inplace" in sys.argv:
        if mode == "0":
            remove_compiled()
        elif is_current():
            return
    elif BUILDING.intersection(sys.argv[1:]):
        # setuptools takes whatever an earlier build left there into the next wheel.
        for left in ROOT.glob("build/lib*"):
            shutil.rmtree(left)
    setup(ext_modules=extension_modules(mode), cmdclass=commands(mode))


if __name__ == "__main__":
    main()
