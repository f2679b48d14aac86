"""How fast spikeloop is: beside what the machine can do at most, and beside its peers.

    python benchmarks/speed.py                     # minutes: every workload in float32, one and two threads
    python benchmarks/speed.py --all               # longer: float64 and the twin of a chip, too
    python benchmarks/speed.py W2 W2-140 --all     # some workloads; likewise "neurons --laws"
    python benchmarks/speed.py --peers             # the peers, in an environment of their own (.venv-peers), and ours
    python benchmarks/speed.py --learning          # time to an accuracy, ten seeds
    python benchmarks/speed.py --laws              # how cost and memory grow: docs/images/speed_laws.png
    python benchmarks/speed.py --table             # only write the table anew
    python benchmarks/speed.py --check             # against results/speed_baseline.json; --accept writes that

Every setting runs in a process of its own, pinned to as many cores as it has threads. Its line in results/speed.jsonl
replaces an older one of the same setting; what was measured at this very commit is not measured again, unless with
--again, so a stopped run goes on where it was. The page is results/speed.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accuracy import RESULTS, commit, git, machine

SUITE = Path(__file__).parent / "suite"
sys.path.insert(0, str(SUITE))

import baseline  # noqa: E402
import laws_plot  # noqa: E402
import peers  # noqa: E402
import speed_table  # noqa: E402
from child import quietest  # noqa: E402
from laws import LAWS, OF_LAWS  # noqa: E402
from roofline import Roofline, solve_seconds  # noqa: E402
from workloads import WORKLOADS, make  # noqa: E402

LINES, TABLE = RESULTS / "speed.jsonl", RESULTS / "speed.md"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
TWIN = ("twin", "twin, no noise")
ON_TWIN = ("W1", "W2")
THREADS = (1, 2)
NOISY = 0.3  # cores that others had meanwhile: such a line stays until a better one comes
LEARNING = (("yin-yang", 1, 10), ("mnist", 2, 3))  # task, threads, seeds

Setting = dict[str, Any]
Line = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for and not there yet, then write the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or what it has started would go on
    given = _parser().parse_args(arguments)
    command = " ".join(["python", "benchmarks/speed.py", *arguments])
    names = given.workloads or list(WORKLOADS)
    for setting in [] if given.table or given.check or given.accept else _settings(names, given):
        beside_peers = given.peers and setting["kind"] == "ours"  # ratios are of one run
        if given.again or beside_peers or not _stands(setting):
            write(setting | _measured(setting) | {"command": command})
            pages()
    pages()
    if given.laws:
        laws_plot.draw(finished())
    if given.accept:
        baseline.accept(finished())
    return baseline.check(finished()) if given.check else 0


def pages() -> None:
    """The table, and what stands of it in docs/performance.md between two marks."""
    lines = finished()
    TABLE.write_text(speed_table.table(lines))
    before, mark, rest = PAGE.read_text().partition("<!-- numbers: written by benchmarks/speed.py -->\n")
    _, end, after = rest.partition("<!-- end of numbers -->")
    if mark and end:
        PAGE.write_text(f"{before}{mark}\n{speed_table.summary(lines)}\n\n{end}{after}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, *(law.name for law in LAWS), []])
    for flag in ("all", "peers", "learning", "laws", "again", "table", "check", "accept"):
        parser.add_argument(f"--{flag}", action="store_true")
    return parser


def _settings(names: Sequence[str], given: argparse.Namespace) -> list[Setting]:
    """What is to be measured; a setting is what tells a line from others."""
    if given.peers:
        return [setting for name in names for setting in _beside(name)]
    if given.laws:
        chosen = [name for name in OF_LAWS if not given.workloads or name.split()[0] in names]
        return [_ours(name, "ideal", "float32", 1) | {"kind": "law"} for name in chosen]
    if given.learning:
        seeds = [(name, threads, seed) for name, threads, count in LEARNING for seed in range(count)]
        return [{"kind": "learning", "workload": n, "threads": t, "seed": seed} for n, t, seed in seeds]
    return [{"kind": "machine"}, *(setting for name in names for setting in _of(name, everything=given.all))]


def _of(name: str, everything: bool) -> Iterator[Setting]:
    for threads in THREADS:
        yield _ours(name, "ideal", "float32", threads)
        if everything:
            yield _ours(name, "ideal", "float64", threads)
        for substrate in TWIN if everything and name in ON_TWIN else ():
            yield _ours(name, substrate, "float32", threads)


def _beside(name: str) -> list[Setting]:
    """The peers that can do a workload, and ours before them."""
    found = list(peers.settings(name))
    return [*(_ours(name, "ideal", setting["dtype"], setting["threads"]) for setting in found[:1]), *found]


def _ours(name: str, substrate: str, dtype: str, threads: int) -> Setting:
    return {"kind": "ours", "workload": name, "substrate": substrate, "dtype": dtype, "threads": threads}


def _measured(setting: Setting) -> Line:
    """What a process of its own says of it."""
    if setting["kind"] == "machine":
        return _machine()
    if setting["kind"] == "peer":
        return peers.measured(setting, make(setting["workload"]))
    if setting["kind"] == "learning":
        words = [str(setting[key]) for key in ("workload", "seed", "threads")]
        return quietest([sys.executable, str(SUITE / "learning.py"), *words])
    words = [str(setting[key]) for key in ("workload", "substrate", "dtype", "threads")]
    make(*words[:2])
    return quietest([sys.executable, str(SUITE / "ours.py"), *words])


def _machine() -> Line:
    """Multiply-adds, the sweep's share of them with its weights in L1, seconds of an exact crossing."""
    lines = {dtype: Roofline(dtype, 1) for dtype in ("float32", "float64")}
    found = {dtype: {"peak": line.peak(), "share": line.share()} for dtype, line in lines.items()}
    try:
        return found | {"solve": solve_seconds()}
    except subprocess.CalledProcessError as error:  # the engine's headers are not as solves.cpp knows them
        print(error.stderr.decode()[-2000:], file=sys.stderr)
        return found


def _stands(setting: Setting) -> bool:
    """Whether it was measured with this very code, and in quiet; what peers do does not depend on our code."""
    code = None if setting["kind"] == "peer" else _code()
    mine = [line for line in finished() if all(line.get(key) == value for key, value in setting.items())]
    mine = [line for line in mine if line.get("others", 0.0) < NOISY]
    return any(code is None or (line["code"] == code and "+" not in code) for line in mine)


def _code() -> str:
    """What identifies src and cpp as they were committed; changed files make it one that no line has."""
    try:
        trees = [git("rev-parse", "--short", f"HEAD:{tree}") for tree in ("src", "cpp")]
        return "-".join(trees) + ("+" if git("status", "--porcelain", "src", "cpp") else "")
    except (OSError, subprocess.CalledProcessError):
        return "+"


def finished() -> list[Line]:
    """All that was measured, the latest of each setting."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def write(line: Line) -> None:
    """Keep one more, in the place of an older one."""
    keys = ("kind", "workload", "substrate", "dtype", "threads", "peer", "dt", "seed")
    setting = {key: line.get(key) for key in keys}
    kept = [other for other in finished() if {key: other.get(key) for key in keys} != setting]
    line |= {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), "code": _code(), "machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    LINES.write_text("".join(json.dumps(each) + "\n" for each in [*kept, line]))
    rates = ", ".join(f"{phase} {found['median']:,.0f}/s" for phase, found in line.get("rates", {}).items())
    seconds = f"{line['seconds']:.2f} s" if "seconds" in line else ""
    print(*(value for value in setting.values() if value is not None), rates, seconds, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
