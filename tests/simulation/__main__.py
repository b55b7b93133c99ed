"""`python -m tests.simulation --seeds 1000` or `--seed 7`: see `make simulate`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.simulation import mutations
from tests.simulation.contest import contest
from tests.simulation.simulation import FILES, KAFKA, Result, simulate


def describe(result: Result) -> str:
    return (
        f"seed {result.seed}: {result.profile}, {result.operations} operations, {result.unknown} unknown,"
        f" {result.claims} claims, {result.records} records, {result.replica_reads} replica reads,"
        f" {result.steps} steps, trace {result.trace & 0xFFFFFFFFFFFFFFFF:016x}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="one seed, twice, with its story")
    parser.add_argument("--long", type=int, default=0, help="commands that keep the primary busy, in each seed")
    parser.add_argument("--scripts", type=int, default=0, help="scripts that keep the primary busy, in each seed")
    parser.add_argument("--contest", action="store_true", help="claims only, all the time and at once (files only)")
    parser.add_argument("--snapshots", action="store_true", help="snapshotters trim the log (files only)")
    parser.add_argument("--backend", choices=(FILES, KAFKA), default=FILES)
    parser.add_argument(
        "--mutation", choices=sorted(mutations.MUTATIONS), help="break the protocol on purpose: which seed notices?"
    )
    options = parser.parse_args()
    if options.mutation and options.seed is None:
        return noticed(options.mutation)
    with mutations.applied(options.mutation):
        if options.contest:
            run: Callable[..., Result] = contest
            return (
                one(options.seed, run)
                if options.seed is not None
                else many(options.first, options.seeds, run, "--contest")
            )
        run = partial(
            simulate,
            log=options.backend,
            long_commands=options.long,
            snapshots=options.snapshots,
            scripts=options.scripts,
        )
        if options.seed is not None:
            return one(options.seed, run)
        kind = f"--backend {options.backend} --long {options.long} --scripts {options.scripts}"
        return many(options.first, options.seeds, run, kind + (" --snapshots" if options.snapshots else ""))


def one(seed: int, run: Callable[..., Result]) -> int:
    result = run(seed, story=True)
    print("\n".join(result.story))
    print(describe(result))
    again = run(seed)
    same = again.trace == result.trace
    print("the second run did the same" if same else f"the second run did something else: {describe(again)}")
    print("\n".join(f"WRONG: {line}" for line in result.wrong[:20]))
    return 1 if result.wrong or not same else 0


def noticed(name: str) -> int:
    """Break a rule and run seeds until one notices; or the plain test that is said to."""
    mutation = mutations.MUTATIONS[name]
    with mutations.applied(name):
        if mutation.test:
            code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", mutation.test])
            print(f"{name}: {mutation.test} {'notices it' if code == pytest.ExitCode.TESTS_FAILED else 'lets it pass'}")
            return 0 if code == pytest.ExitCode.TESTS_FAILED else 1
        for count, seed in enumerate((*mutation.noticed, *range(1, mutation.seeds + 1)), 1):
            result = simulate(
                seed,
                log=mutation.backend,
                long_commands=mutation.long_commands,
                snapshots=mutation.snapshots,
                scripts=mutation.scripts,
            )
            if result.wrong:
                print(f"{name}: noticed by seed {seed}, the {count}. one tried: {result.wrong[0]}")
                return 0
    print(f"{name}: noticed by none of {mutation.seeds} seeds")
    return 1


def many(first: int, count: int, run: Callable[..., Result], kind: str) -> int:
    """`kind`: the options of the command line that `run` stands for."""
    failed: list[int] = []
    began = time.perf_counter()
    totals = [0, 0, 0, 0]
    accidents: dict[str, int] = {}
    for seed in range(first, first + count):
        result = run(seed)
        for index, number in enumerate((result.operations, result.unknown, result.claims, result.replica_reads)):
            totals[index] += number
        for name, number in result.accidents.items():
            accidents[name] = accidents.get(name, 0) + number
        if result.wrong:
            failed.append(seed)
            print(describe(result))
            print("\n".join(f"    WRONG: {line}" for line in result.wrong[:5]))
            print(f"    again: python -m tests.simulation --seed {seed} {kind}", flush=True)
        if (seed - first + 1) % 100 == 0:
            print(f"{seed - first + 1} seeds, {len(failed)} failed", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    print(f"{count} seeds in {seconds:.0f} s: {totals[0]} operations answered, {totals[1]} of unknown outcome,")
    print(f"{totals[2]} claims, {totals[3]} reads at replicas; accidents: {accidents}")
    print(f"{len(failed)} failed: {failed}" if failed else "all held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
