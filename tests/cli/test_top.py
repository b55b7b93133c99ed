"""`eventdb top`: plain frames and the live screen, of real nodes; and what rates are made of."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner, Result

from eventdb.cli.app import app
from eventdb.cli.frames import Cluster, Frame, Look, Span, frame_of, others_of, span_of
from tests.cli.test_status import PRIMARY, REPLICA
from tests.conftest import ROOT, free_port, wait_until
from tests.kit.nodes import Nodes

runner = CliRunner()
COUNTERS = {
    "total_commands_processed": "100", "total_net_input_bytes": "1000", "total_net_output_bytes": "10",
    "total_error_replies": "0", "keyspace_hits": "0", "keyspace_misses": "0", "expired_keys": "0", "evicted_keys": "0",
    "used_cpu_user_main_thread": "1.0", "used_cpu_sys_main_thread": "1.0", "commits": "10", "commit_usec": "1000",
    "log_transactions": "100", "log_stored_bytes": "5000", "cmdstat_set": "calls=10,usec=100",
    "log_zone0": "name=zone-a,state=up,writes=10,write_usec=1000", "db0": "keys=7,expires=0,avg_ttl=0",
    "rdb_changes_since_last_save": "3", "server_time_usec": "1000000000", "run_id": "one",
}  # fmt: skip


def run(*argv: str) -> Result:
    result = runner.invoke(app, ["top", *argv])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(frame: Frame) -> dict[str, str]:
    return {f"{title}/{name}": value for title, found in frame.panels for name, value in found}


def test_once_prints_a_plain_frame_of_each_node_with_rates(tmp_path: Path) -> None:
    with Nodes(tmp_path, snapshot_store=str(tmp_path / "store")) as nodes:
        primary = nodes.start("a")
        replica = nodes.start("b", follow_only=True)
        with redis.Redis(port=primary.port, socket_timeout=60) as client:  # SAVE is not to be asked for twice
            client.set("first", "v")
            client.execute_command("SAVE")
            client.set("secret-key", "v")
            nodes.applied(2)
            address = f"127.0.0.1:{replica.port}"

            def is_listed() -> bool:  # with how far it is: the primary hears of that a moment later
                shown = run("--port", str(primary.port), "--once", "--interval", "0.05").stdout
                return address in shown and " ms, 0 transactions behind" in shown

            wait_until(is_listed, 60, "the primary lists its replica, which has all")
        shown = run("--port", str(primary.port), "--once", "--interval", "0.2", "--all")
        assert shown.exit_code == 0, shown.stderr
        first, _, second = shown.stdout.partition(f"== {address}")
        for text in (
            "primary of epoch 1",
            "offset 2, 0 transactions",
            "zone-c",
            "a synced write takes",
            "of 10000, ",
            f"{address} ",
            " ms, 0 transactions behind",
            "ms left of",
            "proven ",
            " 1 transactions since",
        ):
            assert text in first, (text, first)
        assert f"primary           127.0.0.1:{primary.port}\n" in second and "role              replica\n" in second
        assert "secret-key" not in shown.stdout
        assert "\x1b" not in shown.stdout


def test_rates_are_what_has_grown_by_the_nodes_own_clock() -> None:
    before = Look(PRIMARY | COUNTERS, 100.0)
    grown = {
        "total_commands_processed": "300", "total_net_input_bytes": "3048", "keyspace_hits": "3",
        "keyspace_misses": "1",
        "used_cpu_user_main_thread": "1.5", "commits": "14", "commit_usec": "9000", "log_transactions": "140",
        "cmdstat_set": "calls=110,usec=600", "cmdstat_get": "calls=50,usec=100",
        "log_zone0": "name=zone-a,state=down,writes=14,write_usec=9000,detail=disk full",
    }  # fmt: skip
    found = rows(frame_of("n:1", before, Look(PRIMARY | COUNTERS | grown, 102.0)))
    assert found["work/commands"] == "100/s" and found["work/reads, writes"] == "25/s, 50/s"
    assert found["work/time in a read"] == "2.00 us" and found["work/time in a write"].startswith("5.00 us")
    assert found["work/hits"] == "75 %" and found["work/received, sent"] == "1.00K/s, 0B/s"
    assert found["work/engine's CPU"] == "25 %"
    assert found["log/commits"] == "2/s, 2.00 ms each, batch of 10.0 transactions"
    assert found["zones/zone-a"] == "down (disk full), a synced write takes 2.00 ms"
    assert found["commands/set"] == "50/s, 5.00 us each" and found["commands/get"] == "25/s, 2.00 us each"
    assert found["room/keys"] == "7"


def test_without_an_earlier_look_and_when_a_counter_began_anew_no_rate_is_shown() -> None:
    first = rows(frame_of("n:1", None, Look(PRIMARY | COUNTERS, 100.0)))
    assert first["work/commands"] == "-/s" and first["work/reads, writes"] == "-/s, -/s"
    assert not any(name.startswith("commands/") for name in first)
    anew = Span(Look(PRIMARY | COUNTERS, 1.0), Look(PRIMARY | COUNTERS | {"commits": "2"}, 2.0))
    assert anew.grown("commits") is None and anew.per_second("log_transactions") == 0


def test_a_replica_names_its_primary_and_a_snapshot_its_age() -> None:
    info = REPLICA | COUNTERS | {"snapshot_time": "400", "events_replayed": "9"}
    found = rows(frame_of("n:1", None, Look(info, 0)))
    assert found["replication/primary"] == "h:1" and found["replication/behind"] == "0 ms, 0 transactions"
    assert found["log/snapshot"] == "proven 10 min 0 s ago, 3 transactions since"
    assert others_of(info) == ["h:1"]
    assert others_of(PRIMARY | {"slave0": "ip=::1,port=2,offset=1,lag_ms=0"}) == ["[::1]:2"]
    assert [span_of(n) for n in (-5, 61, 7260, 90061)] == ["0 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]


def test_nobody_there_is_exit_code_2_and_a_terminal_is_needed_for_the_screen() -> None:
    port = str(free_port())
    found = run("--port", port, "--once", "--interval", "0.05")
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith(f"eventdb: no node answers at 127.0.0.1:{port}: ")
    pytest.importorskip("textual", reason="textual is not installed")
    found = run("--port", port)
    assert (found.exit_code, found.stderr) == (2, "eventdb: a live screen needs a terminal; --once prints one frame\n")


def test_without_textual_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['textual'] = None\nfrom eventdb.cli import app\nsys.argv = ['eventdb', 'top']\napp()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "eventdb: a live screen needs textual, which is not installed: pip install 'eventdb[top]' (or use --once)\n"
    )


async def test_the_screen_shows_a_node_live_and_survives_its_end(tmp_path: Path) -> None:
    pytest.importorskip("textual", reason="textual is not installed")
    from eventdb.cli.top_screen import TopScreen

    with Nodes(tmp_path) as nodes:
        server = nodes.start("a")
        cluster = Cluster(f"127.0.0.1:{server.port}", "", None, "", everyone=False)
        screen = TopScreen(cluster, 0.5)

        async def until(what: str) -> None:
            async with asyncio.timeout(60):
                while what not in text(screen):
                    await pilot.pause(0.02)

        async with screen.run_test(size=(120, 50)) as pilot:
            await until("primary of epoch 1")
            await until("zone-b")
            with redis.Redis(port=server.port) as client:
                client.set("k", "v")
            await until("offset 1, 0 transactions")
            await pilot.press("plus")
            await until("every 1 s")
            await pilot.press("minus", "space")
            await until("paused")
            await pilot.press("space")
            await asyncio.to_thread(nodes.stop, server)
            await until("warning: ")
            assert screen.frames[0].panels == []
            await pilot.press("q")
        assert screen.return_code == 0
        cluster.close()


def text(screen: object) -> str:
    """What stands on the screen, row by row."""
    strips = screen.screen._compositor.render_strips()  # type: ignore[attr-defined]
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)
