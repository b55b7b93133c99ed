"""The accidents: what happens to machines, zones and the network, drawn from the seed.

Accidents that only keep somebody from being reached or heard may happen to all at once; the log then waits. What makes
a zone forget (a sync that lied, and a power cut after it) may happen to one zone: that is what three zones promise. So
a world with a liar has its zone accidents in that one zone only, and there the whole directory may be replaced by an
older copy, or be gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from eventdb.backends import LogError, RecordKind
from eventdb.backends.kafka import KafkaWriter
from eventdb.cluster.lease import AskedRole
from eventdb.cluster.timing import MARGIN
from eventdb.node.node import Node
from eventdb.protocol.errors import ReplyError
from eventdb.scripting.watch import LOOK_S
from tests.simulation.broker import COPIES, Partition
from tests.simulation.cluster import Cluster, Machine, choose
from tests.simulation.ops import ZoneState
from tests.simulation.threads import SimRuntime
from tests.simulation.world import Process

# A lease and the silence after it are measured on two clocks; together they may differ by MARGIN.
DRIFT = MARGIN * 0.45
WILD = (0.4, 2.5)


@dataclass(slots=True)
class Profile:
    """What kind of world a seed has."""

    name: str = "usual"
    liar: int = -1  # zone whose syncs may lie
    stale_reads: bool = False  # allowed: clocks run apart by more than the lease's margin
    accidents: int = 0


def draw_profile(rng: random.Random, cluster: Cluster) -> Profile:
    """Draw the kind of world, and set its clocks. One in 12 is calm, one in 6 has wild clocks, one in 4 lies."""
    chance = rng.random()
    profile = Profile(accidents=rng.randint(2, 9))
    if chance < 0.08:
        profile.name, profile.accidents = "calm", 0
    elif chance < 0.33 and len(cluster.zones) > 1:
        profile.name, profile.liar = "liar", rng.randrange(len(cluster.zones))
    elif chance < 0.50:
        profile.name, profile.stale_reads = "wild clocks", True
    for machine in cluster.machines:
        machine.wall_s = rng.uniform(-3, 3)
        if profile.stale_reads:
            machine.rate = choose(rng, *WILD)
        else:
            machine.rate = 1 + rng.uniform(-DRIFT, DRIFT)
    if rng.random() < 0.25:
        cluster.machine_id = "boot"  # they all run on one machine, and know when one of them has ended
    return profile


class Nemesis:
    def __init__(
        self, cluster: Cluster, profile: Profile, rng: random.Random, *, long_commands: int = 0, scripts: int = 0
    ) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.profile = profile
        self.rng = rng
        self.counts: dict[str, int] = {}
        self.long_commands = long_commands  # to be run, beside all else that happens
        self.commands_run = 0  # of them
        self.scripts = scripts  # the same
        zones = [self.slow_zone, self.failing_zone, self.full_zone, self.zone_down, self.power_cut, self.cut_from_zone]
        zones += [self.touch]
        self._accidents: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.kill,
            self.kill_primary,
            self.kill_primary,
            self.pause,
            self.pause_primary,
            self.pause_primary,
            self.cut_from_zones,
            self.cut_primary_from_zones,
            self.split,
            self.split,
            self.split,
            self.cut_nodes,
            self.cut_clients,
            self.slow_network,
            self.fail_over,
            self.claim_by_force,
            self.usurp,
            self.step_wall_clock,
            *zones,
        ]
        if cluster.partition is not None:
            self._accidents = [a for a in self._accidents if a not in zones and a != self.split]
            self._accidents += [self.lose_broker, self.lose_leader, self.replace_leader, self.slow_brokers]
            self._accidents += [self.lose_answers, self.lose_answers, self.two_brokers, self.leader_alone]
        elif profile.liar >= 0:
            self._accidents += [self.power_cut, self.power_cut, self.older_copy, self.older_copy, self.wiped]
        else:
            self._accidents += [self.dark, self.failing_syncs, self.long_tail]

    async def run(self, seconds: float) -> None:
        """Let things happen for so long; they may overlap. At the end everything is as good as new."""
        world, rng = self.world, self.rng
        if self.profile.liar >= 0:
            self.zones()[0].lies = rng.choice((0.1, 0.5, 1.0))
            world.note(f"zone {self.profile.liar} lies")
        times = sorted(rng.uniform(0.2, 0.8 * seconds) for _ in range(self.profile.accidents))
        began = world.now
        if rng.random() < 0.3:  # the primary lives and is cut off, or held up: what leases are for
            self._accidents = [self.pause_primary, self.cut_primary_from_zones, self.usurp]
            self._accidents += [] if self.profile.liar >= 0 or self.cluster.partition else [self.split]
        accidents: dict[float, Callable[[], Awaitable[None]]] = {}
        for _ in range(self.long_commands):
            accidents[rng.uniform(0.2, 0.8 * seconds)] = self.long_command
        for _ in range(self.scripts):
            accidents[rng.uniform(0.2, 0.8 * seconds)] = self.long_script
        for at in sorted([*times, *accidents]):
            await world.sleep(max(began + at - world.now, 0.0))
            accident = accidents.get(at) or rng.choice(self._accidents)
            self.counts[accident.__name__] = self.counts.get(accident.__name__, 0) + 1
            world.create_task(accident())  # type: ignore[arg-type]
        await world.sleep(max(began + seconds - world.now, 0.0))

    def heal(self) -> None:
        """Everything works again from here on; what was lost stays lost."""
        self.world.note("all is healed")
        for zone in self.cluster.zones:
            zone.heal()
        if self.cluster.partition is not None:
            self.cluster.partition.heal()
        self.cluster.network.cut.clear()
        self.cluster.network.slow = 0.0
        for machine in self.cluster.machines:
            if machine.process is not None:
                machine.process.resume()
            if self.profile.stale_reads:  # its clock is repaired, for which it is started again
                machine.kill()
                machine.rate = 1.0
            if not machine.up:
                machine.start(AskedRole.AUTO)

    # -- whom

    def zones(self) -> list[ZoneState]:
        """Those that accidents may happen to."""
        liar = self.profile.liar
        return self.cluster.zones if liar < 0 else [self.cluster.zones[liar]]

    def _machine(self, *, primary: bool = False) -> Machine:
        found = self.cluster.primaries() if primary else []
        return self.rng.choice(found or self.cluster.machines)

    def _how(self) -> str:
        return self.rng.choice(("hang", "hang", "error"))

    async def _for(self, low: float, high: float) -> None:
        """Accidents are rather short than long."""
        await self.world.sleep(low + (high - low) * self.rng.random() ** 1.5)

    # -- machines

    async def kill(self) -> None:
        await self._kill(self._machine())

    async def kill_primary(self) -> None:
        await self._kill(self._machine(primary=True))

    async def _kill(self, machine: Machine, asked: AskedRole | None = None) -> None:
        if not machine.up:
            return
        self.world.note(f"{machine.name} is killed")
        machine.kill()
        await self._for(0.01, 2.0)
        if not machine.up:
            self.world.note(f"{machine.name} is started")
            machine.start(asked)

    async def claim_by_force(self) -> None:
        await self._kill(self._machine(), AskedRole.PRIMARY)

    async def pause(self) -> None:
        await self._pause(self._machine())

    async def pause_primary(self) -> None:
        await self._pause(self._machine(primary=True))

    async def _pause(self, machine: Machine) -> None:
        process = machine.process
        if process is None or process.dead or process.paused:
            return
        self.world.note(f"{machine.name} is stopped")
        process.pause()
        await self._for(0.02, 2.5)
        self.world.note(f"{machine.name} goes on")
        process.resume()

    async def long_command(self) -> None:
        """The primary's loop is busy for longer than its usual lease, once its lease outlasts that."""
        machine = self._machine(primary=True)
        server, process = machine.server, machine.process
        if server is None or process is None or process.dead or server.node.tenure is None:
            return
        seconds = self.rng.uniform(0.2, 3.0)
        process.spawn(self._work(machine.name, process, server.node, seconds))

    async def _work(self, name: str, process: Process, node: Node, seconds: float) -> None:
        """What the engine does with a command that does not fit its lease, and then the command."""
        tenure, engine = node.tenure, node.engine
        while node.tenure is tenure and engine.on_long is not None and not engine.gate:
            if node.monotonic() + seconds < engine.lease_until:
                self.world.note(f"{name} runs a command of {seconds:.2f} s")
                self.commands_run += 1
                process.work(seconds)
                return
            engine.on_long(seconds, True)
            await asyncio.sleep(0.002)

    async def long_script(self) -> None:
        """The primary's loop is busy with a script, under the lease it has; often the world does not let it be."""
        rng = self.rng
        machine = self._machine(primary=True)
        server, process = machine.server, machine.process
        if server is None or process is None or process.dead or server.node.tenure is None:
            return
        process.spawn(self._begin_script(machine.name, process, server.node, rng.uniform(0.2, 3.0)))
        if self.profile.accidents and rng.random() < 0.6:
            await self._for(0.0, 1.0)
            accidents = [self.usurp, self.cut_primary_from_zones, self.pause_primary]
            if self.cluster.partition is not None:
                accidents += [self.lose_leader, self.replace_leader, self.lose_answers, self.leader_alone]
            await rng.choice(accidents)()

    async def _begin_script(self, name: str, process: Process, node: Node, seconds: float) -> None:
        engine = node.engine
        if process.busy or engine.gate or engine.busy.on_progress is None or node.monotonic() > engine.lease_until:
            return
        hangs_s = seconds * self.rng.random() if self.rng.random() < 0.2 else 0.0
        self.world.note(f"{name} runs a script of {seconds:.2f} s and hangs for {hangs_s:.2f} s of it")
        process.busy = True
        runtime = self.cluster.runtimes[process]
        runtime.thread(lambda: self._script(runtime, node, seconds, seconds - hangs_s), "script").start()

    def _script(self, runtime: SimRuntime, node: Node, seconds: float, progress_s: float) -> None:
        """What keeps the loop (see scripting/watch.py); a thread here, so that what it calls can wait for others."""
        partition = self.cluster.partition
        began = runtime.monotonic()
        while (spent := runtime.monotonic() - began) < seconds:
            on_progress = node.engine.busy.on_progress
            if on_progress is not None and spent < progress_s:
                on_progress()
                if partition is not None and node.writer is not None:
                    end = cast(KafkaWriter, node.writer).durable_end
                    if end > partition.copied:
                        self.cluster.seen.wrong.append(f"said to be durable by {node.name}, with one copy: {end - 1}")
            runtime.sleep(LOOK_S)
        runtime.process.worked()

    async def usurp(self) -> None:
        """An operator makes another node the primary while the one there is cannot be reached."""
        primary = self._machine(primary=True)
        other = self.rng.choice([machine for machine in self.cluster.machines if machine is not primary])
        self.world.create_task(self._cut(primary, self.cluster.zones))
        if other.up:
            other.kill()
        other.start(AskedRole.PRIMARY)
        self.world.note(f"{other.name} is started to be the primary")

    async def step_wall_clock(self) -> None:
        """Somebody sets the date; the monotonic clock goes on as it did."""
        machine = self._machine(primary=self.rng.random() < 0.7)
        step_s = self.rng.uniform(-3, 3)
        machine.wall_s += step_s
        if machine.process is not None:
            machine.process.wall_s += step_s
        self.world.note(f"{machine.name}: the date is set by {step_s:+.1f} s")

    async def fail_over(self) -> None:
        machine = self._machine(primary=True)
        server = machine.server
        if not machine.up or server is None or machine.process is None or server.node.tenure is None:
            return
        self.world.note(f"{machine.name} is asked to hand over")
        timeout_ms = self.rng.choice((100, 1000, 5000))
        machine.process.spawn(_tried(server.node.hand_over(None, timeout_ms)))

    # -- zones

    async def slow_zone(self) -> None:
        zone = self.rng.choice(self.zones())
        zone.slow = self.rng.choice((0.005, 0.05, 0.4))
        self.world.note(f"zone {zone.index} is slow by {zone.slow}")
        await self._for(0.1, 2.0)
        zone.slow = 0.0

    async def failing_zone(self) -> None:
        rng = self.rng
        zone = rng.choice(self.zones())
        chance = rng.choice((0.02, 0.2, 1.0))
        kind = rng.choice(("read_error", "write_error", "sync_error"))
        self.world.note(f"zone {zone.index}: {kind} {chance}")
        setattr(zone, kind, chance)
        await self._for(0.05, 1.5)
        setattr(zone, kind, 0.0)
        if kind == "sync_error" and rng.random() < 0.5:
            await self._power(zone)

    async def full_zone(self) -> None:
        zone = self.rng.choice(self.zones())
        self.world.note(f"zone {zone.index} is full")
        zone.full = True
        await self._for(0.1, 1.5)
        zone.full = False

    async def zone_down(self) -> None:
        zone = self.rng.choice(self.zones())
        self.world.note(f"zone {zone.index} is down")
        zone.down = True
        await self._for(0.05, 2.0)
        zone.down = False
        self.world.note(f"zone {zone.index} is back")

    async def power_cut(self) -> None:
        await self._power(self.rng.choice(self.zones()))

    async def _power(self, zone: ZoneState) -> None:
        self.world.note(f"zone {zone.index} loses power")
        zone.down = True
        zone.disk.cut_power(self.rng)
        await self._for(0.01, 1.0)
        zone.down = False
        self.world.note(f"zone {zone.index} is back")

    async def dark(self) -> None:
        """The power is cut everywhere at once."""
        self.world.note("the power is cut")
        for machine in self.cluster.machines:
            machine.kill()
        for zone in self.cluster.zones:
            zone.disk.cut_power(self.rng)
        for machine in self.cluster.machines:
            await self._for(0.0, 0.5)
            if not machine.up:
                machine.start()

    async def touch(self) -> None:
        """chmod -R, chown -R, cp -al: over one zone or all of them."""
        zones = self.cluster.zones
        for zone in zones if self.rng.random() < 0.5 else [self.rng.choice(zones)]:
            self.world.note(f"zone {zone.index}: its files bear other change times")
            zone.disk.touch()
            await self._for(0.0, 0.02)

    async def older_copy(self) -> None:
        zone = self.rng.choice(self.zones())
        backup = zone.disk.backup()
        await self._for(0.05, 1.5)
        self.world.note(f"zone {zone.index} is an older copy")
        zone.disk.replace_zone(backup)

    async def wiped(self) -> None:
        zone = self.rng.choice(self.zones())
        self.world.note(f"zone {zone.index} is gone")
        zone.disk.replace_zone(None)

    async def failing_syncs(self) -> None:
        """No sync succeeds, the writer dies, the page cache shows what is on no disk; later the power is cut."""
        rng, zones = self.rng, self.cluster.zones
        self.world.note("syncs fail everywhere")
        for zone in zones:
            zone.sync_error = 1.0
        await self._for(0.0, 0.08)  # soon: a zone that tries again begins a new segment, which hides what was shown
        self.world.create_task(self._kill(self._machine(primary=True)))
        await self._for(0.0, 0.05)
        for zone in zones:
            zone.sync_error = 0.0
        await self._for(0.2, 2.0)
        if rng.random() < 0.7:
            await self.dark()

    async def long_tail(self) -> None:
        """A writer that reaches a minority goes on there and dies; the zones with its tail are away for a later epoch.

        Then they are back, others are away, and somebody claims: the longest tail is not the one to adopt.
        """
        cluster, rng = self.cluster, self.rng
        few = len(cluster.zones) // 2
        if not few:
            return
        order = rng.sample(cluster.zones, len(cluster.zones))
        near, out, process = order[:few], order[few : 2 * few], cluster.visitor("x")
        self.world.note(f"a stray writer is left with zones {[zone.index for zone in near]}")
        process.spawn(self._stray(process, near))
        await self._for(0.1, 0.6)
        process.kill()
        for zone in near:
            zone.down = True
        await self._for(0.8, 1.8)
        self.world.note(f"zones {[zone.index for zone in near]} are back, {[zone.index for zone in out]} are not there")
        for machine in cluster.machines:
            machine.kill()
        for zone in cluster.zones:
            zone.down = zone in out
            zone.cut.pop(process.name, None)
        for machine in cluster.machines:
            await self._for(0.0, 0.2)
            if not machine.up:
                machine.start()
        await self._for(0.2, 1.5)
        for zone in out:
            zone.down = False

    async def _stray(self, process: Process, near: list[ZoneState]) -> None:
        try:
            writer = await self.cluster.open_log().claim("stray")
        except LogError:
            return
        for zone in self.cluster.zones:
            if zone not in near:
                zone.cut[process.name] = "hang"
        for _ in range(self.rng.randint(20, 200)):
            offset, time_ms = writer.next_offset, writer.last_time_ms
            writer.append(b"", first_offset=offset, count=0, time_ms=time_ms, kind=RecordKind.HEARTBEAT)
        await asyncio.sleep(10)

    # -- brokers

    @property
    def partition(self) -> Partition:
        assert self.cluster.partition is not None
        return self.cluster.partition

    async def lose_broker(self) -> None:
        await self._lose(self.rng.randrange(COPIES))

    async def _lose(self, broker: int) -> None:
        partition = self.partition
        self.world.note(f"broker {broker} is lost{', the leader' if broker == partition.leader else ''}")
        if broker == partition.leader:
            partition.lose_leader(replaced=False)
            await self._for(0.2, 1.5)
            partition.elect()
        else:
            partition.lose(broker)
        await self._for(0.1, 2.0)
        partition.start(broker)
        self.world.note(f"broker {broker} is back, broker {partition.leader} leads")

    async def lose_leader(self) -> None:
        if self.partition.leader >= 0:
            await self._lose(self.partition.leader)

    async def two_brokers(self) -> None:
        one, other = self.rng.sample(range(COPIES), 2)
        self.world.create_task(self._lose(one))
        await self._lose(other)

    async def leader_alone(self) -> None:
        """All followers are lost, one soon after the other: what is on its way then is the leader's alone."""
        followers = [broker for broker in range(COPIES) if broker != self.partition.leader]
        self.world.create_task(self._lose(followers[0]))
        await self._for(0.0, 0.3)
        await self._lose(followers[1])

    async def replace_leader(self) -> None:
        """The leader is replaced, and does not know it for a while."""
        self.world.note(f"broker {self.partition.leader} is replaced")
        self.partition.lose_leader(replaced=True)
        await self._for(0.01, 0.8)
        self.partition.elect()
        self.world.note(f"broker {self.partition.leader} leads")

    async def slow_brokers(self) -> None:
        self.partition.slow = self.rng.choice((0.01, 0.1, 1.0))
        self.world.note(f"brokers are slow by {self.partition.slow}")
        await self._for(0.1, 1.5)
        self.partition.slow = 0.0

    async def lose_answers(self) -> None:
        self.partition.lost_answers = self.rng.choice((0.05, 0.3, 1.0))
        self.world.note(f"answers are lost: {self.partition.lost_answers}")
        await self._for(0.1, 1.5)
        self.partition.lost_answers = 0.0

    async def _cut_from_brokers(self, machine: Machine, partition: Partition) -> None:
        self.world.note(f"{machine.name} is cut from the brokers")
        partition.cut.add(machine.name)
        await self._for(0.1, 2.5)
        partition.cut.discard(machine.name)
        self.world.note(f"{machine.name} reaches the brokers")

    # -- the network

    async def cut_from_zone(self) -> None:
        await self._cut(self._machine(primary=self.rng.random() < 0.6), [self.rng.choice(self.zones())])

    async def cut_from_zones(self) -> None:
        await self._cut(self._machine(), self.cluster.zones)

    async def cut_primary_from_zones(self) -> None:
        await self._cut(self._machine(primary=True), self.cluster.zones)

    async def _cut(self, machine: Machine, zones: list[ZoneState]) -> None:
        if self.cluster.partition is not None:
            await self._cut_from_brokers(machine, self.cluster.partition)
            return
        how = self._how()
        self.world.note(f"{machine.name} is cut from zones {[zone.index for zone in zones]} ({how})")
        for zone in zones:
            zone.cut[machine.name] = how
        await self._for(0.1, 2.5)
        for zone in zones:
            zone.cut.pop(machine.name, None)
        self.world.note(f"{machine.name} reaches zones {[zone.index for zone in zones]}")

    async def cut_nodes(self) -> None:
        one, other = self.rng.sample(self.cluster.machines, 2)
        await self._cut_pairs([frozenset((one.name, other.name))])

    async def cut_clients(self) -> None:
        machine = self._machine(primary=True)
        await self._cut_pairs([frozenset((machine.name, user)) for user in self._users() if self.rng.random() < 0.7])

    async def split(self) -> None:
        """The network falls in two: a machine (mostly the primary), a zone and some clients, and all the others."""
        rng, cluster = self.rng, self.cluster
        machine = self._machine(primary=rng.random() < 0.8)
        near = rng.choice(self.zones())
        how = self._how()
        self.world.note(f"split: {machine.name} and zone {near.index} ({how})")
        cuts = [(zone, machine.name) for zone in cluster.zones if zone is not near]
        cuts += [(near, other.name) for other in cluster.machines if other is not machine]
        for zone, name in cuts:
            zone.cut[name] = how
        others = [other.name for other in cluster.machines if other is not machine]
        pairs = [frozenset((machine.name, name)) for name in others]
        for user in self._users():
            side = rng.random()
            if side < 0.4:
                pairs += [frozenset((user, name)) for name in others]
            elif side < 0.7:
                pairs.append(frozenset((user, machine.name)))
        cluster.network.cut.update(pairs)
        await self._for(0.3, 4.0)
        self.world.note("the split is over")
        for zone, name in cuts:
            zone.cut.pop(name, None)
        cluster.network.cut.difference_update(pairs)

    def _users(self) -> list[str]:
        return [process.name for process in self.world.processes if process.name.startswith("u")]

    async def _cut_pairs(self, pairs: list[frozenset[str]]) -> None:
        network = self.cluster.network
        self.world.note(f"cut: {sorted(sorted(pair) for pair in pairs)}")
        network.cut.update(pairs)
        await self._for(0.1, 2.0)
        network.cut.difference_update(pairs)

    async def slow_network(self) -> None:
        self.cluster.network.slow = self.rng.choice((0.005, 0.05, 0.3))
        await self._for(0.1, 2.0)
        self.cluster.network.slow = 0.0


async def _tried(attempt: Awaitable[object]) -> None:
    try:
        await attempt
    except ReplyError:
        pass
