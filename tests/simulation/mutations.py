"""The protocol broken on purpose, one rule at a time: each has to be noticed, by the simulation or by a plain test.

`MUTATIONS` holds one for each rule of the log contract, of zones and of Kafka, and of leases. What breaks a rule stands
in `mutations_zones.py` and `mutations_kafka.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import mutations_kafka as kafka
from tests.simulation import mutations_snapshots as snapshots
from tests.simulation import mutations_zones as zones
from tests.simulation.simulation import FILES, KAFKA

PLAIN = "tests/backends/"
LEASE = "tests/cluster/test_lease.py::test_a_"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`noticed`: seeds that noticed it when this was written; `seeds`: how many are tried when none of them does.

    `test`: a test that notices it, where what the simulation does to the world cannot show it.
    """

    rule: str
    broken: Callable[[], contextlib.AbstractContextManager[None]]
    backend: str = FILES
    noticed: tuple[int, ...] = ()
    seeds: int = 150
    test: str = ""
    long_commands: int = 0
    snapshots: bool = False
    scripts: int = 0


MUTATIONS: dict[str, Mutation] = {
    # -- what durable means
    "acknowledge-before-quorum": Mutation(
        "durable: in a majority of zones", zones.acknowledge_before_quorum, noticed=(14,)
    ),
    "write-without-sync": Mutation("durable: written and synced", zones.write_without_sync, noticed=(4,)),
    "vote-for-what-is-on-its-way": Mutation(
        "a zone votes for what it has synced",
        zones.vote_for_what_is_on_its_way,
        test=PLAIN + "test_quorum_rules.py::test_a_zone_votes_for_what_it_has_written_and_no_more",
    ),
    "try-a-failed-sync-again": Mutation(
        "after a sync error the tail is not trusted",
        zones.try_a_failed_sync_again,
        test=PLAIN
        + "test_quorum_zone_faults.py::test_after_a_failed_sync_the_tail_of_the_segment_is_not_trusted_again",
    ),
    "trust-the-page-cache": Mutation(
        "a claim writes again what may be in the cache alone",
        zones.trust_the_page_cache,
        test=PLAIN + "test_quorum_replaced.py::test_a_claim_writes_the_tail_again_in_its_own_source_too",
    ),
    "late-files-have-a-say": Mutation(
        "what a claim adopted cannot be changed by files of a fenced writer",
        zones.late_files_have_a_say,
        test=PLAIN + "test_late_files.py::test_what_a_zone_had_synced_alone_is_no_more_settled_than_the_rest",
    ),
    "adopt-unlooked": Mutation(
        "what was adopted is still there when it is written again",
        zones.adopt_unlooked,
        test=PLAIN + "test_late_files.py::test_a_claim_that_finds_another_end_than_it_has_read_is_made_anew[begun]",
    ),
    "try-a-hole-again": Mutation(
        "a zone with a hole is rebuilt from the others",
        zones.try_a_hole_again,
        test=PLAIN
        + "test_quorum_replaced.py::test_a_hole_before_the_end_of_a_zone_that_was_away_is_filled_from_the_others",
    ),
    "hint-ahead": Mutation(
        "a hint is never ahead of the truth",
        zones.hint_ahead,
        test=PLAIN + "test_quorum_rules.py::test_a_longer_tail_of_a_fenced_writer_is_not_adopted",
    ),
    "prove-by-what-is-readable": Mutation(
        "a reader believes a writer's word",
        zones.prove_by_what_is_readable,
        test=PLAIN + "test_quorum_reader.py::test_what_was_never_synced_is_shown_after_a_claim_has_written_it_again",
    ),
    "foresee-without-promise": Mutation(
        "nothing is foreseen under a higher promise",
        zones.foresee_without_promise,
        test=PLAIN + "test_quorum_rules.py::test_what_was_written_under_a_higher_promise_is_not_shown",
    ),
    "foresee-by-one-zone": Mutation(
        "what one zone holds need not be found",
        zones.foresee_by_one_zone,
        test=PLAIN + "test_quorum_rules.py::test_what_was_written_under_a_higher_promise_is_not_shown",
    ),
    "show-what-is-older": Mutation(
        "no node shows less than it has shown",
        zones.show_what_is_older,
        test="tests/node/test_outage.py::test_a_node_that_stepped_down_shows_nothing_older_than_what_it_has_shown",
    ),
    "squeeze-over-what-came-meanwhile": Mutation(
        "a squeezed segment takes the place of the very file that was read",
        zones.squeeze_over_what_came_meanwhile,
        test=PLAIN + "test_squeezed.py::test_what_was_put_in_its_place_meanwhile_is_left_alone",
    ),
    "go-over-to-a-name-that-may-vanish": Mutation(
        "a segment made ahead is written alone once its name is durable",
        zones.go_over_to_a_name_that_may_vanish,
        noticed=(22,),
    ),
    "rely-on-a-name-that-was-not-synced": Mutation(
        "after a sync error a name is not trusted",
        zones.rely_on_a_name_that_was_not_synced,
        test=PLAIN + "test_successor.py::test_a_name_that_cannot_be_given_is_not_relied_on",
    ),
    "name-what-lacks-the-latest": Mutation(
        "a segment never shows what its successor does not hold",
        zones.name_what_lacks_the_latest,
        test=PLAIN + "test_successor.py::test_what_the_successor_did_not_take_the_segment_does_not_show",
    ),
    # -- snapshots and trims
    "trim-before-the-proof": Mutation(
        "nothing is trimmed but behind a snapshot that was read back", snapshots.trim_before_the_proof, snapshots=True
    ),
    "manifest-before-data": Mutation(
        "a snapshot exists when its data does", snapshots.manifest_before_data, snapshots=True
    ),
    "snapshot-of-a-fenced-history": Mutation(
        "a snapshot is used where the log goes on from it",
        snapshots.believe_any_history,
        test="tests/replay/test_trimming.py::test_a_snapshot_of_a_fenced_history_is_never_used_and_never_trimmed_behind",
    ),
    "free-after-a-snapshot": Mutation(
        "who begins with a snapshot knows of the lease before it",
        snapshots.forget_what_was_said_before,
        test="tests/node/test_snapshot_start.py::test_who_begins_with_a_snapshot_knows_that_somebody_holds_the_lease",
    ),
    # -- fencing
    "skip-promise-check": Mutation(
        "an append counts only while its promise stands", zones.skip_promise_check, noticed=(1,)
    ),
    "check-before-the-write": Mutation(
        "the promise is looked at after the sync",
        zones.check_before_the_write,
        test=PLAIN + "test_quorum_zone_faults.py::test_a_writer_stalled_across_a_claim_never_acknowledges_again",
    ),
    "share-a-promise": Mutation(
        "one claimant owns an epoch in a zone",
        zones.share_a_promise,
        test=PLAIN + "test_quorum_history.py::test_a_promise_is_made_once_and_fences_lower_ones",
    ),
    "claim-a-minority": Mutation(
        "a claim needs promises of a majority",
        zones.claim_a_minority,
        test=PLAIN + "test_recovery_table.py::test_pictures",
    ),
    "read-before-the-promise": Mutation(
        "tails are read after the promise",
        zones.read_before_the_promise,
        test=PLAIN + "test_quorum_rules.py::test_a_claim_reads_the_end_of_a_zone_after_it_has_fenced_its_writer",
    ),
    "skip-adoption": Mutation("the best tail is adopted", zones.skip_adoption, noticed=(4,)),
    "adopt-the-longest": Mutation(
        "a later epoch's tail is better than a longer one",
        zones.adopt_the_longest,
        test=PLAIN + "test_quorum_rules.py::test_a_longer_tail_of_a_fenced_writer_is_not_adopted",
    ),
    "durable-before-the-claim": Mutation(
        "nothing is durable before the claim record",
        zones.durable_before_the_claim,
        test=PLAIN + "test_quorum_rules.py::test_what_was_adopted_is_durable_with_the_claim_record_and_not_before",
    ),
    "read-fenced-records": Mutation("what a fenced writer adds is ignored", zones.read_fenced_records, noticed=(25,)),
    # -- zones that forgot
    "vote-while-rebuilt": Mutation(
        "a zone counts again when it is complete",
        zones.vote_while_rebuilt,
        test=PLAIN + "test_quorum_rules.py::test_a_zone_that_is_rebuilt_has_no_vote_until_it_is_a_member",
    ),
    "keep-the-votes-of-a-blank-zone": Mutation(
        "a zone that forgot has no vote",
        zones.keep_the_votes_of_a_blank_zone,
        test=PLAIN + "test_quorum_rules.py::test_a_zone_that_is_rebuilt_has_no_vote_until_it_is_a_member",
    ),
    "believe-an-older-copy": Mutation(
        "an older copy of a zone does not count",
        zones.believe_an_older_copy,
        test=PLAIN + "test_quorum_replaced.py::test_a_vote_is_never_for_more_than_the_zone_holds",
    ),
    "mix-two-logs": Mutation(
        "zones of two logs, or of another number, are refused",
        zones.mix_two_logs,
        test=PLAIN + "test_quorum_history.py::test_a_directory_of_another_log_is_refused",
    ),
    # -- records
    "join-what-was-fenced": Mutation(
        "a record in fragments is applied when it is whole",
        zones.join_what_was_fenced,
        test=PLAIN + "test_kafka_history.py::test_what_was_acknowledged_is_history_once_for_every_reader",
    ),
    "skip-what-is-damaged": Mutation(
        "a reader never skips",
        zones.skip_what_is_damaged,
        test=PLAIN + "test_quorum_history.py::test_a_frame_damaged_in_every_zone_stops_the_reader_with_its_place",
    ),
    # -- Kafka
    "ignore-expected-position": Mutation(
        "OK means the expected position", kafka.ignore_expected_position, KAFKA, noticed=(1, 2)
    ),
    "believe-what-is-shown": Mutation(
        "what is shown may be on one copy", kafka.believe_what_is_shown, KAFKA, noticed=(22, 27)
    ),
    "ask-one-copy": Mutation("acks=all", kafka.ask_one_copy, KAFKA, noticed=(1, 2)),
    "every-claim-wins": Mutation(
        "the first claim of an epoch wins",
        kafka.every_claim_wins,
        KAFKA,
        test=PLAIN + "test_kafka_history.py::test_the_first_claim_wins_and_the_second_is_void",
    ),
    "take-moved-records": Mutation(
        "a record is history where it was expected",
        kafka.take_moved_records,
        KAFKA,
        test=PLAIN + "test_kafka_history.py::test_a_record_sent_twice_is_history_once",
    ),
    "claim-without-reading": Mutation(
        "a claimant reads to its own claim",
        kafka.claim_without_reading,
        KAFKA,
        test=PLAIN + "test_kafka_history.py::test_what_was_acknowledged_is_history_once_for_every_reader",
    ),
    # -- while a script keeps the loop
    "push-what-was-sent-with-more": Mutation(
        "what may be in the log is sent again as it was", kafka.push_what_was_sent_with_more, KAFKA, (10,), scripts=6
    ),
    "push-on-after-a-claim": Mutation(
        "what was pushed counts at its expected position", kafka.push_on_after_a_claim, KAFKA, (3,), scripts=6
    ),
    "push-to-one-copy": Mutation("what is pushed asks all copies", kafka.push_to_one_copy, KAFKA, (1,), scripts=6),
    "acknowledge-what-is-pushed": Mutation(
        "what was pushed counts when it is durable", kafka.acknowledge_what_is_pushed, KAFKA, (1,), scripts=6
    ),
    # -- leases
    "serve-past-the-lease": Mutation(
        "no read is answered past the lease",
        zones.serve_past_the_lease,
        test=LEASE + "process_that_was_stopped_longer_than_its_lease_answers_nothing_before_the_log_confirms_it",
    ),
    "believe-a-longer-lease": Mutation(
        "a longer lease counts when it is durable",
        zones.believe_a_longer_lease,
        test=LEASE + "command_that_may_outlast_the_lease_waits_until_a_longer_one_is_durable",
    ),
    "answer-at-once": Mutation(
        "a claimant waits for the lease of another",
        zones.answer_at_once,
        test=LEASE + "claimant_waits_for_the_leases_that_began_behind_its_back",
    ),
}


def applied(name: str | None) -> contextlib.AbstractContextManager[None]:
    """Inside, the rule of that name is broken."""
    return MUTATIONS[name].broken() if name is not None else contextlib.nullcontext()
