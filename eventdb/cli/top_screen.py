"""The live screen of `eventdb top`. It is the only file that needs textual."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Sparkline, Static
from textual.worker import get_current_worker

from eventdb.cli.frames import Cluster, Frame

HISTORY = 120  # looks that the line of commands per second remembers
INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0)


class TopScreen(App[None]):
    """Looks at the nodes again and again, in a thread, so that one that does not answer holds up no key."""

    CSS = """
    #rate { height: 3; margin: 0 1; }
    #head { height: 1; margin: 0 1; }
    .node { height: auto; margin: 0 1 1 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Quit"),
        ("space", "pause", "Pause"),
        ("plus", "slower", "Slower"),
        ("minus", "faster", "Faster"),
    ]

    def __init__(self, cluster: Cluster, interval_s: float) -> None:
        super().__init__()
        self.cluster = cluster
        self.interval_s = interval_s
        self.is_paused = self.is_looking = False
        self.rates: list[float] = []
        self.frames: list[Frame] = []
        self.title = f"eventdb top {cluster.first.address}"

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Sparkline(self.rates, id="rate")
        yield VerticalScroll(id="nodes")
        yield Footer()

    def on_mount(self) -> None:
        self._say()
        self.timer = self.set_interval(self.interval_s, self.look)
        self.look()

    # -- looking

    def look(self) -> None:
        """Unless the look before is not over yet: a node that does not answer takes its time."""
        if not self.is_paused and not self.is_looking:
            self.is_looking = True
            self._look()

    @work(thread=True, exit_on_error=True)
    def _look(self) -> None:
        try:
            frames = self.cluster.frames()
            if not get_current_worker().is_cancelled:
                self.call_from_thread(self.show, frames)
        finally:
            self.is_looking = False

    def show(self, frames: list[Frame]) -> None:
        """On the screen's own loop."""
        self.frames = frames
        self.rates = [*self.rates, frames[0].commands_s][-HISTORY:]
        self.query_one("#rate", Sparkline).data = self.rates
        nodes = self.query_one("#nodes", VerticalScroll)
        shown = list(nodes.query(".node").results(Static))
        while len(shown) < len(frames):
            one = Static(classes="node")
            nodes.mount(one)
            shown.append(one)
        for extra in shown[len(frames) :]:
            extra.remove()
        for one, frame in zip(shown, frames):
            one.update(drawn(frame))
        self._say()

    def _say(self) -> None:
        state = "paused" if self.is_paused else f"every {self.interval_s:g} s"
        self.query_one("#head", Static).update(Text(f"{self.title}   {state}", style="bold"))

    # -- keys

    def action_pause(self) -> None:
        self.is_paused = not self.is_paused
        self._say()

    def action_slower(self) -> None:
        self._pace([each for each in INTERVALS if each > self.interval_s][:1])

    def action_faster(self) -> None:
        self._pace([each for each in INTERVALS if each < self.interval_s][-1:])

    def _pace(self, wanted: list[float]) -> None:
        if wanted:
            self.interval_s = wanted[0]
            self.timer.stop()
            self.timer = self.set_interval(self.interval_s, self.look)
            self._say()


def drawn(frame: Frame) -> Table:
    """A node's panels, two beside each other, and its warnings."""
    whole = Table.grid(padding=(0, 3))
    whole.add_column(ratio=1)
    whole.add_column(ratio=1)
    whole.add_row(Text(frame.address, style="bold reverse"))
    for left, right in zip(frame.panels[::2], [*frame.panels[1::2], ("", [])]):
        whole.add_row(_panel(*left), _panel(*right))
    for warning in frame.warnings:
        whole.add_row(Text(f"warning: {warning}", style="bold red"))
    return whole


def _panel(title: str, rows: list[tuple[str, str]]) -> Table:
    made = Table.grid(padding=(0, 1))
    made.add_row(Text(title, style="bold cyan"))
    for name, value in rows:
        made.add_row(Text(name, style="dim"), Text(value))
    return made


def run(cluster: Cluster, interval_s: float) -> None:
    """Until q."""
    TopScreen(cluster, interval_s).run()
