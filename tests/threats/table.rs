//! One line for each threat: what is promised, and what fails without it.

use super::Kept::{Shown, Told};
use super::Threat;

pub(crate) const TABLE: &[Threat] = &[
    (
        "I1",
        "what is signed is the very value that policy, caps and reservation allowed",
        Shown(&[
            "tests/payer/transaction.rs::the_reservation_is_there_before_the_wallet_is_asked",
            "tests/payer/transaction.rs::what_the_policy_refuses_reaches_no_wallet",
            "src/protocol/tests/payloads.rs::every_objection_to_signing_is_raised_before_anything_is_signed",
            "src/protocol/tests/payloads.rs::nothing_but_what_was_approved_is_sent",
        ]),
    ),
    (
        "I2",
        "settled and reserved together pass no cap, under any interleaving and over restarts",
        Shown(&[
            "tests/budget_props.rs::the_book_keeps_its_promises",
            "src/ledger/sqlite/explore.rs::reservations_pass_no_cap",
            "tests/simulator/main.rs::no_cap_is_overshot_and_no_request_is_paid_twice",
            "tests/real/crash.rs::a_restart_gives_no_new_budget",
            "tests/scale/pooled.rs::four_owners_behind_a_pooler_pay_what_one_budget_holds",
            "tests/real/failover.rs::a_standby_takes_over_under_load_and_the_old_primary_is_not_paid_from",
        ]),
    ),
    (
        "I3",
        "a durable record is there before any wallet is asked",
        Shown(&[
            "tests/payer/transaction.rs::the_reservation_is_there_before_the_wallet_is_asked",
            "tests/real/fail_points.rs::after_a_signature",
            "tests/ledger_contract.rs::acknowledged_posts_survive_a_kill",
        ]),
    ),
    (
        "I4",
        "one request of an agent has one payment at most",
        Shown(&[
            "tests/payer/transaction.rs::an_agents_retry_gets_the_same_payload_never_a_second_payment",
            "tests/payer/transaction.rs::a_wallet_that_may_have_signed_is_not_asked_again_for_the_same_request",
            "tests/real/retries.rs::three_retries_of_an_agent_carry_one_payload_and_a_fifth_none",
            "tests/real/retries.rs::a_paid_request_is_never_sent_twice_by_the_connection",
            "tests/real/interop.rs::a_settlement_that_goes_wrong_is_signed_once_and_counted",
            "tests/real/prepay.rs::another_price_is_told_and_never_paid_for_the_same_request",
        ]),
    ),
    (
        "I5",
        "what was signed counts in full until its chain proves otherwise",
        Shown(&[
            "tests/payer/transaction.rs::an_answer_without_a_receipt_proves_nothing",
            "tests/payer/transaction.rs::the_sweeper_needs_proof_to_release",
            "tests/payer/transaction.rs::only_a_certain_wallet_gives_money_back",
            "tests/real/reconcile.rs::what_was_never_taken_is_given_back",
            "tests/real/reconcile.rs::a_node_that_lies_moves_nothing",
            "tests/adversarial/prices.json#FP-P37",
        ]),
    ),
    (
        "I6",
        "a payment goes to the verified origin that asked, with the same method, URL and body",
        Shown(&[
            "tests/real/strangers.rs::a_redirect_after_payment_takes_no_payload_along",
            "tests/real/loops.rs::a_redirect_is_the_agents_to_follow_and_leads_nowhere_that_it_may_not_go",
            "tests/real/certificates.rs::a_host_without_verification_is_never_paid",
            "tests/real/parent.rs::a_parent_hears_names_and_credentials_and_nothing_else",
            "tests/real/interop.rs::plain_http_is_carried_but_not_paid",
            "tests/real/bodies.rs::a_gibibyte_up",
            "tests/real/prepay.rs::what_one_session_learned_is_no_others",
            "tests/real/prepay.rs::what_was_paid_once_takes_one_round_trip_and_one_upload",
        ]),
    ),
    (
        "I7",
        "an agent neither raises, resets nor answers for its own limits",
        Shown(&[
            "tests/real/interop.rs::nobody_reaches_the_admin_surface_through_the_proxy",
            "tests/real/operator.rs::an_agent_answers_no_question_about_itself",
            "tests/cli/serve.rs::reading_changes_nothing_and_strangers_do_not_read",
            "tests/real/dashboard.rs::a_browser_needs_both_halves_and_a_page_of_ours",
            "tests/real/dashboard.rs::pages_hold_no_data_and_forbid_what_they_do_not_need",
            "tests/real/netns.rs::nothing_inside_selects_a_session",
        ]),
    ),
    (
        "I8",
        "keys and payments are in no output, at no level",
        Shown(&[
            "tests/real/secrets.rs::no_secret_is_told_at_any_level",
            "tests/real/secrets.rs::a_running_proxy_is_closed_to_its_own_user",
            "src/cli/bug.rs::only_what_was_written_by_us_is_quoted",
        ]),
    ),
    (
        "I9",
        "without policy, ledger, clock or wallet nothing is paid, and the rest flows on",
        Shown(&[
            "tests/real/disk.rs::no_space",
            "tests/real/disk.rs::a_sync_that_fails",
            "tests/cli/serve.rs::without_a_wallet_it_is_not_ready",
            "tests/policy.rs::without_a_wallet_nothing_is_paid",
            "tests/real/operator.rs::a_freeze_stops_payments_and_nothing_else",
        ]),
    ),
    (
        "I10",
        "each refusal and each payment has one record that explains it",
        Shown(&[
            "tests/payer/transaction.rs::watchers_hear_of_states_once_and_of_flags",
            "tests/policy.rs::the_refusal_carries_what_explains_it",
            "tests/ledger_contract.rs::events_are_the_outbox",
            "src/event/log/tests.rs::spend_events_are_logged_at_every_level",
        ]),
    ),
    (
        "I11",
        "a certificate that is not good enough gets no request and no disguise",
        Shown(&[
            "tests/real/certificates.rs::no_bad_certificate_gets_a_request",
            "tests/real/interop.rs::bad_certificates_are_told_apart_and_never_paid",
        ]),
    ),
    (
        "I12",
        "bytes that are not understood are refused or passed on, never guessed at or paid for",
        Shown(&[
            "src/protocol/tests/props.rs::altered_entries_are_read_as_written_or_not_at_all",
            "src/protocol/tests/props.rs::a_cut_or_damaged_challenge_is_never_another_one",
            "tests/wire/vectors_request.rs::nothing_hides_in_a_request",
            "tests/wire/vectors_request.rs::two_ends_are_seen_on_every_request_of_a_connection",
            "src/proxy/scan.rs::a_head_with_two_ends_is_seen_in_every_spelling",
            "tests/wire/vectors_response.rs::nothing_hides_in_an_answer",
        ]),
    ),
    (
        "X-01",
        "a receipt is a claim; only the chain confirms",
        Shown(&[
            "tests/real/reconcile.rs::what_was_taken_is_confirmed_by_its_transaction",
            "tests/payer/transaction.rs::a_lying_receipt_changes_no_sum",
            "tests/adversarial/delivery.json#FP-D11",
        ]),
    ),
    (
        "X-02",
        "a payment that somebody else used first counts and is not made again",
        Shown(&[
            "tests/adversarial/delivery.json#FP-D03",
            "tests/adversarial/delivery.json#FP-D21",
            "tests/real/hostile.rs::every_hostile_route_ends_as_it_should",
        ]),
    ),
    (
        "X-03",
        "a payment is for one request, and the agent never holds it",
        Shown(&[
            "tests/adversarial/agent.json#FP-G41",
            "tests/adversarial/prices.json#FP-P39",
            "tests/real/retries.rs::another_request_is_another_purchase",
        ]),
    ),
    (
        "X-04",
        "nothing is cached, one payment header is sent, two challenges are none",
        Shown(&[
            "src/protocol/tests/offers.rs::two_challenge_headers_are_unusable_even_when_equal",
            "tests/adversarial/protocol.json#FP-R30",
            "tests/adversarial/protocol.json#FP-R31",
            "tests/adversarial/messages.json#FP-M02",
            "tests/adversarial/words.json#FP-W46",
        ]),
    ),
    (
        "X-05",
        "a fine description buys nothing at a host that no rule names",
        Shown(&[
            "tests/adversarial/parties.json#FP-A56",
            "tests/real/operator.rs::what_is_remembered_of_a_merchant_can_be_seen_and_forgotten",
        ]),
    ),
    (
        "X-06",
        "a challenge for another site is not paid here",
        Shown(&[
            "tests/adversarial/parties.json#FP-A44",
            "tests/adversarial/parties.json#FP-A45",
            "tests/adversarial/terms.json#FP-V60",
            "tests/adversarial/terms.json#FP-V67",
            "tests/adversarial/mpp.json#FP-M26",
        ]),
    ),
    (
        "X-07",
        "each signature has a nonce of its own and is counted",
        Shown(&[
            "tests/real/retries.rs::twenty_identical_requests_at_once_are_twenty_payments",
            "tests/real/interop.rs::two_hundred_at_once_under_a_cap_for_37",
            "tests/ledger_contract.rs::a_nonce_is_spent_for_ever",
        ]),
    ),
    (
        "X-08",
        "no approval, permit or delegation is ever signed",
        Shown(&[
            "src/protocol/tests/offers.rs::approvals_are_refused_and_the_plain_entry_beside_them_is_not",
            "tests/adversarial/protocol.json#FP-R01",
            "tests/adversarial/protocol.json#FP-R02",
            "src/protocol/tests/permits.rs::what_could_take_more_or_pay_another_is_not_signed",
            "src/protocol/tests/permits.rs::the_spender_is_ours_whatever_the_offer_says",
            "tests/real/permits.rs::without_a_rule_that_says_so_nothing_is_signed_by_permit2",
            "tests/adversarial/permits.json#FP-U02",
            "tests/adversarial/permits.json#FP-U03",
            "tests/adversarial/permits.json#FP-U04",
        ]),
    ),
    (
        "X-09",
        "a payment lives minutes whatever is asked, and is held until it is dead",
        Shown(&[
            "tests/policy.rs::validity_is_cut_to_the_limit",
            "tests/adversarial/protocol.json#FP-R07",
            "tests/payer/transaction.rs::the_sweeper_needs_proof_to_release",
        ]),
    ),
    (
        "X-10",
        "the number decides, in units of a known asset, and no text",
        Shown(&[
            "tests/adversarial/prices.json#FP-P01",
            "tests/adversarial/prices.json#FP-P34",
            "tests/payer/control.rs::a_price_may_fall_but_never_creeps_up",
        ]),
    ),
    (
        "X-11",
        "a recipient that changes is noticed or refused",
        Shown(&[
            "tests/adversarial/parties.json#FP-A42",
            "tests/payer/control.rs::the_recipient_seen_first_stays_the_only_one",
            "tests/payer/control.rs::of_two_first_recipients_at_once_one_wins",
            "tests/payer/control.rs::a_new_recipient_is_paid_and_told_where_the_rule_says_alert",
            "tests/policy.rs::recipients_on_a_list",
            "tests/real/prepay.rs::another_recipient_is_told_and_nothing_more_is_signed",
            "tests/real/prepay.rs::a_first_recipient_that_is_pinned_stays_pinned",
        ]),
    ),
    (
        "X-12",
        "policy filters first, and the caps judge the entry that is paid",
        Shown(&[
            "tests/policy.rs::the_cheapest_acceptable_way_is_paid",
            "tests/policy.rs::each_fault_of_a_single_offer_has_its_own_reason",
            "src/protocol/tests/offers.rs::a_long_list_is_read_up_to_its_limit",
            "tests/adversarial/prices.json#FP-P02",
            "tests/adversarial/terms.json#FP-V01",
        ]),
    ),
    (
        "X-13",
        "a second challenge is answered by nobody, and a merchant that takes and asks again is left alone",
        Shown(&[
            "tests/payer/transaction.rs::a_merchant_that_takes_without_giving_is_left_alone",
            "tests/payer/loops.rs::a_merchant_that_is_paid_and_fails_is_left_alone",
            "tests/payer/loops.rs::what_is_paid_and_brings_errors_is_paid_ten_times",
            "tests/real/circles.rs::a_circle_of_paid_redirects_is_paid_ten_times_each",
            "tests/adversarial/delivery.json#FP-D01",
            "tests/adversarial/delivery.json#FP-D02",
            "tests/adversarial/words.json#FP-W30",
        ]),
    ),
    (
        "X-14",
        "what came for the money is noted, and never bought again by itself",
        Shown(&[
            "tests/payer/transaction.rs::evidence_is_noted_and_moves_no_sum",
            "tests/real/interop.rs::a_failure_after_payment_is_counted_once",
            "tests/adversarial/delivery.json#FP-D04",
            "tests/adversarial/words.json#FP-W45",
        ]),
    ),
    (
        "X-15",
        "a maximum is reserved, capped and held until no more can be taken; other such schemes are refused",
        Shown(&[
            "tests/payer/upto.rs::caps_are_for_the_maximum",
            "tests/payer/upto.rs::a_receipt_that_says_less_gives_the_rest_back_when_it_is_dead",
            "tests/payer/upto.rs::whatever_else_a_receipt_says_all_of_it_counts",
            "tests/payer/upto.rs::what_counts_is_never_below_a_claim_and_never_above_the_maximum",
            "tests/real/permits.rs::upto_holds_its_maximum_and_settles_what_was_used",
            "tests/real/permits_chain.rs::a_receipt_that_named_less_than_was_taken_is_found_out",
            "tests/adversarial/permits.json#FP-U20",
            "tests/adversarial/permits.json#FP-U21",
            "tests/adversarial/permits.json#FP-U30",
            "tests/adversarial/protocol.json#FP-R04",
            "tests/adversarial/protocol.json#FP-R05",
            "tests/adversarial/terms.json#FP-V28",
        ]),
    ),
    (
        "X-16",
        "no text of a merchant decides anything or speaks in our name",
        Shown(&[
            "tests/policy.rs::no_refusal_repeats_what_a_merchant_wrote",
            "tests/adversarial/words.json#FP-W01",
            "tests/adversarial/words.json#FP-W20",
        ]),
    ),
    (
        "X-17",
        "query values reach neither books nor logs nor the payment",
        Shown(&[
            "tests/adversarial/agent.json#FP-G12",
            "tests/real/secrets.rs::no_secret_is_told_at_any_level",
        ]),
    ),
    (
        "X-18",
        "a host is its normalised name at label boundaries, with its port",
        Shown(&[
            "tests/policy.rs::hosts_are_matched_at_label_boundaries",
            "src/settings/host.rs::patterns_match_at_label_boundaries",
            "tests/adversarial/parties.json#FP-A50",
            "tests/adversarial/parties.json#FP-A51",
            "tests/adversarial/parties.json#FP-A52",
            "tests/adversarial/parties.json#FP-A54",
        ]),
    ),
    (
        "X-19",
        "payments are counted and paced, however small",
        Shown(&[
            "tests/payer/control.rs::thousand_payments_in_a_minute_are_thirty",
            "tests/payer/control.rs::a_rate_survives_a_restart",
            "tests/budget_props.rs::no_calendar_or_rolling_window_is_passed",
        ]),
    ),
    (
        "X-20",
        "a receipt is read strictly, and moves no sum without a payment of ours",
        Shown(&[
            "src/protocol/receipt.rs::what_cannot_be_read_in_one_way_is_absent",
            "tests/payer/transaction.rs::a_lying_receipt_changes_no_sum",
            "tests/adversarial/delivery.json#FP-D16",
            "tests/adversarial/words.json#FP-W36",
            "tests/adversarial/words.json#FP-W37",
        ]),
    ),
    (
        "X-21",
        "of MPP one charge is paid, by what its request says, with the request that it is for, beside the agent's own credentials",
        Shown(&[
            "tests/real/mpp.rs::a_charge_is_paid_once_and_the_books_agree_with_the_chain",
            "tests/real/mpp.rs::an_agents_own_credentials_are_never_dropped",
            "tests/real/mpp.rs::a_challenge_for_a_body_is_paid_with_that_body_only",
            "tests/real/mpp.rs::what_must_not_be_paid_is_refused_by_name",
            "tests/real/tempo.rs::a_charge_with_our_own_fee_is_paid_once_and_the_fee_counts",
            "tests/real/tempo.rs::shares_reach_everybody_who_may_be_paid_and_nobody_else",
            "tests/real/tempo/faults.rs::hostile_charges_are_refused_each_by_its_reason",
            "tests/real/tempo/faults.rs::killed_around_the_signature_and_the_request_it_pays_at_most_once",
            "src/protocol/tests/tempo.rs::tempo_charges_that_are_not_paid_are_named",
            "src/protocol/tests/tempo.rs::every_unit_goes_where_the_challenge_says",
            "tests/vectors/mpp/tempo.rs::tempo_transactions_equal_the_official_clients_to_the_byte",
            "src/protocol/tests/mpp_read.rs::every_broken_challenge_has_its_reason",
            "src/protocol/tests/mpp_read.rs::terms_that_are_not_paid_are_named",
            "tests/adversarial/mpp.json#FP-M02",
            "tests/adversarial/mpp.json#FP-M16",
            "tests/adversarial/mpp.json#FP-M40",
            "tests/adversarial/mpp.json#FP-M41",
            "tests/real/strangers.rs::a_forged_payment_is_refused_in_every_spelling_and_reaches_nobody",
        ]),
    ),
    (
        "X-22",
        "nothing that a challenge names is fetched",
        Shown(&[
            "tests/real/secrets.rs::nothing_in_a_challenge_is_fetched",
            "tests/adversarial/protocol.json#FP-R48",
            "tests/payer/statements.rs::an_offer_of_another_key_other_terms_or_another_time_is_refused_where_a_rule_wants_one",
        ]),
    ),
    (
        "X-23",
        "a login is signed only where a rule says so, for the origin that was asked, for minutes, and in our words",
        Shown(&[
            "src/protocol/tests/logins.rs::a_login_is_for_the_origin_that_was_asked",
            "src/protocol/tests/logins.rs::a_login_is_short_plain_and_of_this_time",
            "tests/real/sign_in.rs::a_login_for_elsewhere_is_not_signed_and_the_request_is_paid",
            "tests/real/sign_in.rs::without_the_key_nothing_is_signed_but_payments",
            "src/protocol/tests/offers.rs::a_login_hinders_no_payment_and_one_for_another_host_spoils_the_challenge",
            "tests/adversarial/protocol.json#FP-R49",
        ]),
    ),
    (
        "M-01",
        "decimals are the operator's, and prices round against spending",
        Shown(&[
            "src/money/tests.rs::prices_come_from_our_own_decimals_and_round_up",
            "tests/budget_props.rs::a_price_never_rounds_down",
            "tests/adversarial/prices.json#FP-P32",
            "tests/adversarial/prices.json#FP-P33",
        ]),
    ),
    (
        "M-02",
        "an amount has one spelling and no overflow",
        Shown(&[
            "src/money/tests.rs::an_amount_has_one_spelling",
            "src/money/tests.rs::what_parses_is_written_the_same",
            "tests/budget_props.rs::money_is_strict",
            "tests/fuzz.rs::money",
            "tests/adversarial/prices.json#FP-P30",
            "tests/adversarial/terms.json#FP-V20",
        ]),
    ),
    (
        "M-03",
        "an asset is its network and its twenty bytes",
        Shown(&[
            "src/money/tests.rs::an_asset_is_its_network_and_its_20_bytes",
            "tests/adversarial/parties.json#FP-A01",
            "tests/adversarial/parties.json#FP-A02",
            "tests/adversarial/parties.json#FP-A03",
            "tests/adversarial/parties.json#FP-A04",
            "tests/policy.rs::a_transfer_on_solana_is_judged_like_any_other",
            "tests/real/solana.rs::terms_that_would_cost_more_or_go_elsewhere_are_refused_by_name",
        ]),
    ),
    (
        "M-04",
        "a network has one spelling, and main networks are named or not paid on",
        Shown(&[
            "src/money/tests.rs::a_network_has_one_spelling",
            "tests/adversarial/parties.json#FP-A10",
            "tests/adversarial/parties.json#FP-A20",
            "tests/adversarial/parties.json#FP-A25",
        ]),
    ),
    (
        "M-05",
        "the signing domain is of our table, and signatures are those of other implementations",
        Shown(&[
            "tests/vectors.rs::signatures_and_payloads_equal_the_official_clients",
            "tests/real/interop.rs::the_official_client_and_ours_pay_the_same",
            "tests/payer/transaction.rs::a_cheap_offer_under_a_wrong_domain_hides_no_good_one",
            "tests/adversarial/parties.json#FP-A43",
            "tests/adversarial/terms.json#FP-V56",
        ]),
    ),
    (
        "M-06",
        "a recipient is an address that can be somebody",
        Shown(&[
            "src/evm.rs::addresses_are_read_in_any_case_but_a_wrong_one",
            "src/evm.rs::the_first_addresses_are_reserved",
            "tests/adversarial/parties.json#FP-A30",
            "tests/adversarial/parties.json#FP-A31",
            "tests/adversarial/parties.json#FP-A32",
            "tests/adversarial/parties.json#FP-A35",
            "tests/adversarial/parties.json#FP-A37",
            "tests/policy.rs::an_account_of_a_program_is_paid_where_a_rule_lists_it",
            "tests/real/solana.rs::terms_that_would_cost_more_or_go_elsewhere_are_refused_by_name",
        ]),
    ),
    (
        "M-07",
        "no clock that jumps releases, renews or outlives anything",
        Shown(&[
            "tests/payer/transaction.rs::no_clock_that_jumps_kills_a_payload_that_lives",
            "tests/payer/transaction.rs::a_session_is_over_when_either_clock_says_so",
            "src/clock.rs::the_system_clock_starts_at_the_later_of_wall_and_ledger_and_goes_on",
            "tests/budget_props.rs::a_calendar_window_ends_when_it_says",
        ]),
    ),
    (
        "M-08",
        "nonces are the system's randomness, unique for ever, and without it nothing is paid",
        Shown(&[
            "tests/payer/transaction.rs::without_randomness_nothing_is_paid",
            "tests/payer/transaction.rs::a_million_nonces_are_all_different",
            "tests/ledger_contract.rs::a_nonce_is_spent_for_ever",
        ]),
    ),
    (
        "M-09",
        "all caps are judged and taken in one step, all or none",
        Shown(&[
            "tests/payer/transaction.rs::two_hundred_at_once_buy_exactly_what_the_budget_holds",
            "tests/payer/control.rs::every_scope_has_its_own_account",
            "src/ledger/sqlite/explore.rs::reservations_pass_no_cap",
            "tests/ledger_contract.rs::as_many_pay_as_the_budget_holds",
            "tests/adversarial/prices.json#FP-P36",
        ]),
    ),
    (
        "M-10",
        "a kill at any step loses no sum and signs nothing that is not on the books",
        Shown(&[
            "tests/real/fail_points.rs::before_a_reservation",
            "tests/real/fail_points.rs::before_a_signature",
            "tests/real/fail_points.rs::after_a_signature",
            "tests/real/fail_points.rs::after_the_payment_left",
            "tests/real/fail_points.rs::before_a_settlement",
            "tests/real/fail_points.rs::each_point_has_its_test",
            "tests/real/crash.rs::killed_during_a_burst_of_payments",
            "tests/real/solana.rs::killed_before_and_after_its_signature_a_payment_counts_and_is_not_made_again",
        ]),
    ),
    (
        "M-11",
        "an unknown outcome is held, and at most the same payment is sent again",
        Shown(&[
            "tests/real/retries.rs::three_retries_of_an_agent_carry_one_payload_and_a_fifth_none",
            "tests/real/retries.rs::hold_sends_a_payload_once",
            "tests/real/lost.rs::a_lost_answer_is_fetched_with_the_same_payment_identifier",
            "tests/real/lost.rs::an_answer_that_nobody_kept_is_not_paid_for_again",
            "tests/adversarial/delivery.json#FP-D08",
            "tests/adversarial/delivery.json#FP-D09",
            "tests/adversarial/delivery.json#FP-D10",
        ]),
    ),
    (
        "M-12",
        "an agent's own retry is no purchase, and a new purchase is no retry",
        Shown(&[
            "tests/payer/transaction.rs::an_agents_retry_gets_the_same_payload_never_a_second_payment",
            "tests/payer/transaction.rs::what_was_delivered_is_bought_anew",
            "tests/payer/transaction.rs::a_restart_remembers_the_request_but_not_the_payload",
            "tests/real/retries.rs::an_agent_that_hangs_up_and_asks_again_buys_once",
            "tests/real/lost.rs::a_restart_between_buys_nothing_twice",
            "tests/real/prepay.rs::a_lost_answer_is_resent_and_not_bought_again",
            "tests/payer/restarts.rs::an_agent_that_hung_up_is_owed_its_answer_after_a_restart",
            "tests/payer/restarts.rs::an_answer_that_a_crash_cut_is_owed_after_a_restart",
        ]),
    ),
    (
        "M-13",
        "what was signed is what counts, and nothing is signed for nothing",
        Shown(&[
            "tests/adversarial/delivery.json#FP-D13",
            "tests/adversarial/delivery.json#FP-D15",
            "tests/adversarial/prices.json#FP-P31",
        ]),
    ),
    (
        "M-14",
        "a session ends when it says, and nothing renews its budget but a new one",
        Shown(&[
            "tests/payer/transaction.rs::nothing_is_signed_while_draining_or_after_the_expiry",
            "tests/budget_props.rs::a_renewed_session_starts_at_nothing_and_only_after_its_end",
            "tests/budget_props.rs::a_closed_session_is_not_reopened_by_its_own_entry",
            "src/ledger/sessions.rs::a_restart_does_not_renew_the_default_session",
            "tests/cli/serve.rs::a_default_session_that_is_over_stays_over",
            "tests/real/crash.rs::a_reload_keeps_the_old_policy_or_takes_the_whole_new_one",
        ]),
    ),
    (
        "M-15",
        "one ledger has one proxy",
        Shown(&[
            "tests/real/crash.rs::a_second_instance_on_one_state_directory_is_refused",
            "tests/ledger_contract.rs::one_folder_one_owner_many_readers",
            "tests/cli/serve.rs::a_second_one_is_refused_with_one_line",
        ]),
    ),
    (
        "M-16",
        "an asset without a price of ours is not paid with",
        Shown(&["tests/policy.rs::an_unpriced_asset_is_never_paid"]),
    ),
    (
        "M-17",
        "a disk that fails stops payments, not the proxy, and is told",
        Shown(&[
            "tests/real/disk.rs::a_sync_that_fails",
            "tests/real/disk.rs::a_write_that_fails",
            "tests/real/disk.rs::no_space",
            "tests/real/disk.rs::a_file_system_that_became_read_only",
            "tests/real/disk.rs::a_torn_page",
        ]),
    ),
    (
        "M-18",
        "a ledger that was damaged, replaced or rolled back pays nothing and counts no less",
        Shown(&[
            "tests/ledger_faults.rs::a_changed_byte_never_lowers_a_sum",
            "tests/ledger_faults.rs::a_changed_byte_of_the_log_never_lowers_a_sum",
            "tests/ledger_faults.rs::another_or_an_older_ledger_is_refused",
            "tests/ledger_faults.rs::posts_lost_with_the_log_are_missed",
        ]),
    ),
    (
        "M-19",
        "a wallet signs for its own address, and counts by itself where that is asked for",
        Shown(&[
            "tests/wallet.rs::a_wallet_signs_for_its_own_address_on_its_own_networks",
            "tests/payer/control.rs::every_scope_has_its_own_account",
            "src/wallet/key.rs::digests_are_signed_as_the_vectors_say",
        ]),
    ),
    (
        "T-01",
        "an upstream's certificate is verified in every respect that browsers look at",
        Shown(&[
            "tests/real/certificates.rs::no_bad_certificate_gets_a_request",
            "tests/real/support/certs.rs::the_matrix_is_wide_enough",
        ]),
    ),
    (
        "T-02",
        "verification ends for hosts named in full alone, loudly, and nothing is paid there",
        Shown(&[
            "tests/real/certificates.rs::a_host_without_verification_is_never_paid",
            "tests/real/certificates.rs::no_pattern_switches_verification_off",
        ]),
    ),
    (
        "T-03",
        "a tunnel has one name: dialled, shaken hands with, verified, judged",
        Shown(&[
            "tests/real/reuse.rs::every_name_of_a_request_is_one_name",
            "tests/real/interop.rs::a_tunnel_has_one_name",
            "tests/tls.rs::the_client_hello_must_name_the_tunnel",
            "tests/adversarial/agent.json#FP-G19",
        ]),
    ),
    (
        "T-04",
        "a leaf is for exactly one name, short-lived, and for servers only",
        Shown(&[
            "tests/tls.rs::leaves_are_exact_short_lived_and_not_the_authoritys_key",
            "tests/tls.rs::openssl_in_its_strict_mode_accepts_what_we_sign",
            "tests/tls.rs::no_leaf_outlives_its_authority",
            "tests/real/handshakes.rs::no_certificate_is_made_for_a_name_that_is_none",
        ]),
    ),
    (
        "T-05",
        "the authority's key is made once per install and is nobody else's",
        Shown(&[
            "tests/tls.rs::the_authority_is_made_once_and_kept_from_others",
            "tests/tls.rs::half_an_authority_is_not_replaced",
            "tests/real/crash.rs::a_key_that_others_can_read_in_the_authority_is_refused",
            "tests/cli/books.rs::the_authority_is_shown_and_never_its_key",
            "tests/image.rs::no_key_gets_into_an_image_or_into_git",
        ]),
    ),
    (
        "T-06",
        "the authority can sign leaves for a year and nothing else",
        Shown(&["tests/tls.rs::leaves_are_exact_short_lived_and_not_the_authoritys_key"]),
    ),
    (
        "T-07",
        "our own authority makes no upstream good",
        Shown(&["tests/real/certificates.rs::no_bad_certificate_gets_a_request"]),
    ),
    (
        "T-08",
        "TLS is 1.2 or newer on both sides, and takes no early data",
        Shown(&[
            "tests/real/handshakes.rs::agents_get_good_versions_and_suites_or_nothing",
            "tests/real/handshakes.rs::nothing_is_renegotiated_and_nothing_comes_early",
            "tests/real/handshakes.rs::upstreams_offer_good_versions_and_suites_or_are_not_used",
        ]),
    ),
    (
        "T-09",
        "an upstream's fault is told inside the tunnel with a reason of its own",
        Shown(&[
            "tests/real/interop.rs::bad_certificates_are_told_apart_and_never_paid",
            "tests/docs/main.rs::the_table_of_failures_is_that_of_the_code",
        ]),
    ),
    (
        "T-10",
        "what is not checked of a certificate is told, and a list that is given is heeded",
        Told {
            chapter: "docs/operations.md#The way to merchants",
            words: "Not checked: OCSP, certificate transparency, and revocation without a list in `tls.crls`.",
            tests: &["tests/real/certificates.rs::no_bad_certificate_gets_a_request"],
        },
    ),
    (
        "T-11",
        "each side is offered what can be bridged, and nothing is confused with another protocol",
        Shown(&[
            "tests/wire/quirks.rs::alpn_is_answered_as_it_is_offered",
            "tests/wire/pairs.rs::every_pairing_carries_everything",
            "tests/wire/pairs.rs::a_merchant_without_a_common_protocol_is_told_apart",
            "tests/real/interop.rs::http2_on_both_sides",
        ]),
    ),
    (
        "T-12",
        "a blind tunnel is for hosts on the list, unpaid",
        Shown(&["tests/real/interop.rs::some_hosts_are_passed_through_some_refused"]),
    ),
    (
        "T-13",
        "what is no TLS and no HTTP ends its tunnel",
        Shown(&[
            "tests/wire/quirks.rs::other_protocols_in_a_tunnel_are_closed",
            "tests/wire/quirks.rs::plain_http_in_a_tunnel_is_governed",
            "src/tls/peek.rs::what_no_server_would_answer_is_no_hello",
        ]),
    ),
    (
        "T-14",
        "no connection and no ticket is shared by sessions or names",
        Shown(&[
            "tests/real/reuse.rs::no_session_and_no_name_rides_on_anothers_connection",
            "tests/real/reuse.rs::tickets_are_not_shared_either",
        ]),
    ),
    (
        "T-15",
        "no answer leads around the proxy or out of TLS",
        Shown(&[
            "tests/real/reuse.rs::no_answer_shows_a_way_around_the_proxy",
            "src/tls/peek.rs::a_hidden_name_is_seen_as_such",
            "tests/adversarial/parties.json#FP-A57",
        ]),
    ),
    (
        "T-16",
        "handshakes are rationed, and certificates kept within bounds",
        Shown(&["tests/wire/limits.rs::handshakes_are_rationed_by_session"]),
    ),
    (
        "T-17",
        "a client certificate is shown to its own hosts only",
        Shown(&[
            "tests/real/certificates.rs::a_client_certificate_is_shown_to_its_hosts_only",
            "tests/real/certificates.rs::a_client_key_that_others_can_read_is_not_used",
        ]),
    ),
    (
        "H-01",
        "a request or an answer has one end, or ends its connection",
        Shown(&[
            "tests/wire/vectors_request.rs::nothing_hides_in_a_request",
            "tests/wire/vectors_request.rs::two_ends_are_seen_on_every_request_of_a_connection",
            "src/proxy/scan.rs::a_head_with_two_ends_is_seen_in_every_spelling",
            "tests/wire/vectors_response.rs::nothing_hides_in_an_answer",
            "src/proxy/framing.rs::answers_with_two_ends_are_refused",
            "tests/adversarial/agent.json#FP-G40",
            "tests/adversarial/messages.json#FP-M13",
        ]),
    ),
    (
        "H-02",
        "HTTP/2 that is no HTTP/1 goes no further",
        Shown(&[
            "tests/wire/frames.rs::frames_are_kept_to_the_letter",
            "tests/wire/frames.rs::a_stream_that_both_sides_ended_takes_nothing_more",
            "tests/wire/pairs.rs::wrong_answers_over_http_2_are_not_handed_on",
            "tests/real/strangers.rs::http2_knows_no_connection_header",
        ]),
    ),
    (
        "H-03",
        "no text of a merchant becomes a header of ours",
        Shown(&[
            "src/proxy/refuse.rs::a_refusal_explains_itself_in_headers_and_body",
            "tests/policy.rs::no_refusal_repeats_what_a_merchant_wrote",
            "src/protocol/receipt.rs::a_claim_keeps_its_well_formed_members_only",
        ]),
    ),
    (
        "H-04",
        "what Connection names cannot take the payment away",
        Shown(&[
            "tests/real/strangers.rs::connection_cannot_take_the_payment_header_away",
            "src/proxy/headers.rs::a_connection_header_takes_what_it_names_but_never_the_framing",
            "tests/adversarial/agent.json#FP-G10",
        ]),
    ),
    (
        "H-05",
        "nothing follows an upgrade before the merchant grants it",
        Shown(&[
            "tests/wire/expect.rs::upgrades_are_the_merchants_to_grant",
            "tests/adversarial/messages.json#FP-M23",
        ]),
    ),
    (
        "H-06",
        "a challenge that breaks off is none",
        Shown(&[
            "tests/adversarial/transport.json#FP-T01",
            "tests/adversarial/transport.json#FP-T02",
            "tests/adversarial/transport.json#FP-T03",
            "tests/wire/quirks.rs::http_1_0_is_spoken_to_who_speaks_it",
        ]),
    ),
    (
        "H-07",
        "a target has the form of its method, and one host",
        Shown(&[
            "src/proxy/framing.rs::targets_have_the_form_of_their_method",
            "src/proxy/target.rs::a_host_header_must_name_the_tunnel",
            "tests/wire/quirks.rs::connect_to_nowhere_is_refused",
            "tests/wire/vectors_request.rs::nothing_hides_in_a_request",
        ]),
    ),
    (
        "H-08",
        "an answer belongs to the request it answers, and what follows it is thrown away",
        Shown(&[
            "tests/wire/vectors_response.rs::nothing_hides_in_an_answer",
            "src/proxy/headers.rs::trailers_carry_neither_money_nor_framing",
            "tests/adversarial/transport.json#FP-T06",
            "tests/adversarial/messages.json#FP-M22",
        ]),
    ),
    (
        "H-09",
        "a payment that the agent brings is refused in every spelling",
        Shown(&[
            "tests/real/strangers.rs::a_forged_payment_is_refused_in_every_spelling_and_reaches_nobody",
            "tests/real/mcp.rs::an_agents_own_payment_is_refused_and_goes_nowhere",
            "src/protocol/tests/mod.rs::a_payment_of_the_agents_own_is_seen_in_every_spelling",
            "tests/adversarial/agent.json#FP-G01",
            "tests/adversarial/spellings.json#FP-S16",
        ]),
    ),
    (
        "H-10",
        "our own headers come from us, in either direction",
        Shown(&[
            "tests/real/strangers.rs::receipts_and_our_own_words_go_neither_way",
            "tests/real/strangers.rs::nobody_refuses_in_our_name",
            "tests/adversarial/delivery.json#FP-D20",
        ]),
    ),
    (
        "H-11",
        "no redirect is followed, and none takes a payment along",
        Shown(&[
            "tests/real/strangers.rs::a_redirect_after_payment_takes_no_payload_along",
            "tests/real/loops.rs::a_redirect_is_the_agents_to_follow_and_leads_nowhere_that_it_may_not_go",
            "tests/adversarial/delivery.json#FP-D07",
            "tests/adversarial/messages.json#FP-M25",
        ]),
    ),
    (
        "H-12",
        "a body is sent twice as it was, or its request is not paid for",
        Shown(&[
            "tests/adversarial/agent.json#FP-G16",
            "tests/adversarial/agent.json#FP-G17",
            "tests/adversarial/agent.json#FP-G18",
            "tests/wire/expect.rs::a_body_is_not_sent_before_its_price_is_known",
        ]),
    ),
    (
        "H-13",
        "a path has one reading, or passes no rule with paths",
        Shown(&[
            "tests/policy.rs::a_path_that_can_be_read_in_two_ways_passes_no_rule_with_paths",
            "src/policy/path.rs::ambiguous_paths_are_no_paths",
            "tests/adversarial/spellings.json#FP-S24",
        ]),
    ),
    (
        "H-14",
        "what is not paid for arrives as it was sent",
        Shown(&[
            "tests/wire/differ.rs::nothing_differs_but_what_must",
            "tests/wire/quirks.rs::events_are_not_held_back",
            "tests/adversarial/transport.json#FP-T16",
        ]),
    ),
    (
        "H-15",
        "a 402 of the merchant, and nothing else, starts a payment",
        Shown(&[
            "src/protocol/tests/mod.rs::only_a_402_starts_a_payment",
            "tests/adversarial/protocol.json#FP-R60",
            "tests/adversarial/protocol.json#FP-R61",
            "tests/adversarial/messages.json#FP-M26",
            "tests/real/parent.rs::what_a_parent_answers_is_told_apart_and_never_paid",
        ]),
    ),
    (
        "S-01",
        "addresses of the inside are not reached unless the operator lists them",
        Shown(&[
            "src/proxy/dial.rs::internal_addresses_are_not_public_in_any_spelling",
            "tests/adversarial/agent.json#FP-G30",
            "tests/adversarial/agent.json#FP-G31",
            "tests/adversarial/agent.json#FP-G32",
        ]),
    ),
    (
        "S-02",
        "an address is the same in every spelling, or is none",
        Shown(&[
            "src/proxy/target.rs::one_spelling_per_destination",
            "src/proxy/target.rs::other_spellings_are_refused",
            "tests/adversarial/spellings.json#FP-S43",
            "tests/adversarial/spellings.json#FP-S48",
        ]),
    ),
    (
        "S-03",
        "the address that was checked is the address that is dialled",
        Shown(&[
            "tests/real/netns.rs::a_name_that_changes_its_address_leads_to_no_other",
            "tests/real/netns.rs::a_name_and_a_chosen_address_lead_to_the_name",
        ]),
    ),
    (
        "S-04",
        "ports are listed, and part of a host",
        Shown(&["tests/wire/quirks.rs::connect_to_nowhere_is_refused"]),
    ),
    (
        "S-05",
        "who is not on loopback shows a credential",
        Shown(&[
            "tests/config.rs::files_that_are_wrong_are_told_so",
            "tests/config.rs::every_client_can_be_made_to_show_credentials",
            "tests/wire/quirks.rs::credentials_are_asked_for_and_then_taken",
            "tests/real/doors.rs::a_proxy_behind_tls_lets_in_who_shows_a_good_certificate",
            "tests/real/doors.rs::a_socket_knows_its_users",
            "tests/real/doors.rs::who_comes_from_elsewhere_is_not_served",
        ]),
    ),
    (
        "S-06",
        "the admin listener is reached directly, with its token, and not through the proxy",
        Shown(&[
            "tests/real/interop.rs::nobody_reaches_the_admin_surface_through_the_proxy",
            "tests/cli/serve.rs::the_admin_listener_is_not_reached_through_the_proxy",
            "tests/cli/serve.rs::health_needs_no_token_and_everything_else_does",
            "tests/cli/serve.rs::reading_changes_nothing_and_strangers_do_not_read",
        ]),
    ),
    (
        "S-07",
        "a connection that leads back to the proxy ends",
        Shown(&[
            "tests/real/netns.rs::connections_that_lead_back_end",
            "tests/real/loops.rs::a_plain_request_for_the_proxy_itself_ends_at_once",
            "tests/real/netns.rs::own_listeners_are_no_destination_by_any_interface",
            "src/proxy/own.rs::a_machine_knows_itself_by_every_address",
            "tests/real/circles.rs::a_parent_that_is_the_proxy_itself_ends_at_once",
            "tests/real/circles.rs::two_proxies_behind_each_other_end_what_comes_back",
            "tests/wire/quirks.rs::a_request_with_our_own_name_in_via_goes_no_further",
        ]),
    ),
    (
        "S-08",
        "a parent proxy sees names and nothing else, and comes from no environment unasked",
        Shown(&[
            "tests/real/parent.rs::a_parent_hears_names_and_credentials_and_nothing_else",
            "tests/real/parent.rs::the_environment_names_no_parent_unless_it_may",
        ]),
    ),
    (
        "D-01",
        "who is slow slows nobody else, and not for ever",
        Shown(&[
            "tests/wire/limits.rs::slow_clients_slow_nobody_else",
            "tests/wire/limits.rs::old_and_silent_connections_end",
            "tests/adversarial/transport.json#FP-T13",
            "tests/adversarial/transport.json#FP-T14",
        ]),
    ),
    (
        "D-02",
        "heads have bounds in both directions",
        Shown(&[
            "tests/wire/limits.rs::heads_are_bounded_both_ways",
            "tests/wire/limits.rs::fields_are_counted_over_http_2_too",
            "tests/adversarial/transport.json#FP-T08",
            "tests/adversarial/transport.json#FP-T09",
        ]),
    ),
    (
        "D-03",
        "a flood of frames drowns its own connection",
        Shown(&[
            "tests/wire/limits.rs::floods_of_frames_drown_their_own_connection",
            "tests/wire/streams.rs::an_answer_that_nobody_reads_ends",
            "tests/wire/streams.rs::an_upload_that_nobody_reads_ends",
            "tests/wire/streams.rs::readers_that_pause_stop_nobody_else",
        ]),
    ),
    (
        "D-04",
        "challenges are unpacked up to a small size, goods never",
        Shown(&[
            "tests/adversarial/transport.json#FP-T11",
            "tests/adversarial/messages.json#FP-M20",
            "tests/adversarial/messages.json#FP-M21",
        ]),
    ),
    (
        "D-05",
        "a challenge is read in bounded time, depth and size, in one way",
        Shown(&[
            "src/protocol/tests/props.rs::the_worst_challenges_are_read_in_bounded_time",
            "src/protocol/encoding.rs::depth_and_parts_are_bounded",
            "src/protocol/encoding.rs::repeated_members_are_found_however_they_are_written",
            "tests/fuzz.rs::x402_v2_read",
            "tests/adversarial/protocol.json#FP-R37",
        ]),
    ),
    (
        "D-06",
        "what is remembered in memory has bounds, and forgets no spending",
        Shown(&[
            "src/payer/breaker.rs::what_is_watched_has_bounds",
            "src/proxy/pool.rs::what_is_kept_is_bounded_per_host_in_all_and_in_time",
            "src/payer/outstanding.rs::what_is_remembered_has_bounds",
            "tests/payer/control.rs::a_session_cannot_flood_a_person_with_questions",
        ]),
    ),
    (
        "D-07",
        "tunnels have bounds in number, silence and age",
        Shown(&[
            "tests/wire/limits.rs::blind_tunnels_have_bounds",
            "tests/wire/limits.rs::blind_tunnels_grow_only_so_old",
            "tests/wire/limits.rs::idle_tunnels_cost_little",
            "tests/wire/limits.rs::one_address_does_not_take_every_connection",
        ]),
    ),
    (
        "D-08",
        "no reader of logs holds anybody up, and no label of a metric is somebody else's text",
        Shown(&[
            "src/event/log/tests.rs::a_reader_who_stops_reading_holds_up_nobody",
            "src/event/metrics/tests.rs::the_page_counts_what_happened",
            "src/event/metrics/tests.rs::no_agent_makes_the_page_grow",
        ]),
    ),
    (
        "D-09",
        "no bytes make it panic, and a panic ends its own connection only",
        Shown(&[
            "src/protocol/tests/props.rs::any_bytes_are_read_without_a_panic",
            "tests/fuzz.rs::every_target_is_listed_and_has_seeds",
            "tests/fuzz.rs::client_hello",
            "tests/wire/vectors_request.rs::nothing_hides_in_a_request",
        ]),
    ),
    (
        "D-10",
        "a wallet that does not answer keeps its hold and stops nothing else",
        Shown(&[
            "tests/real/signers.rs::silence_holds_the_money_and_nothing_else",
            "tests/real/signers.rs::a_slow_signer_is_asked_by_so_many_at_once_and_no_more",
            "tests/payer/transaction.rs::only_a_certain_wallet_gives_money_back",
            "tests/payer/transaction.rs::a_wallet_that_may_have_signed_is_not_asked_again_for_the_same_request",
        ]),
    ),
    (
        "A-01",
        "a policy or ledger that others may change is not stood on",
        Shown(&[
            "tests/cli/custody.rs::nothing_that_others_may_change_is_stood_on",
            "tests/cli/custody.rs::a_link_in_a_folder_of_others_is_not_followed",
            "tests/cli/custody.rs::a_reload_takes_no_policy_that_others_may_change",
            "tests/cli/serve.rs::a_policy_that_others_may_write_is_refused",
        ]),
    ),
    (
        "A-02",
        "the key is in no environment, core, or memory that another may read",
        Shown(&[
            "tests/real/secrets.rs::a_running_proxy_is_closed_to_its_own_user",
            "tests/wallet.rs::a_hardened_process_leaves_no_core_and_runs_on",
            "tests/real/clients.rs::the_child_sees_no_secret_of_ours",
            "tests/deploy.rs::users_differ",
            "tests/real/pods.rs::an_agent_that_ignores_everything_is_governed_and_reaches_nothing_else",
        ]),
    ),
    (
        "A-03",
        "a way around the proxy is the network's to close, and can be looked for",
        Told {
            chapter: "docs/security.md#What it does not protect from",
            words: "**An agent that ignores the variables** goes around the policy, unless the network leads it back",
            tests: &[
                "tests/cli/doctor.rs::a_direct_way_is_found_by_trying_it",
                "tests/real/netns.rs::clients_that_ignore_proxy_variables_pay",
                "tests/real/pods.rs::an_agent_that_ignores_everything_is_governed_and_reaches_nothing_else",
            ],
        },
    ),
    (
        "A-04",
        "a session is chosen by its secret, and by nothing inside the tunnel",
        Shown(&[
            "src/ledger/sessions.rs::a_session_is_found_by_its_secret_only",
            "tests/real/netns.rs::nothing_inside_selects_a_session",
            "tests/adversarial/spellings.json#FP-S21",
            "tests/adversarial/spellings.json#FP-S22",
        ]),
    ),
    (
        "A-05",
        "an agent's own wallet does not pay through us",
        Shown(&[
            "tests/real/strangers.rs::a_forged_payment_is_refused_in_every_spelling_and_reaches_nobody",
            "tests/adversarial/agent.json#FP-G02",
        ]),
    ),
    (
        "A-06",
        "an echo of a payment is noticed, and no TRACE makes one",
        Shown(&[
            "tests/real/strangers.rs::an_echo_of_our_own_payload_is_flagged",
            "tests/real/strangers.rs::a_trace_is_not_forwarded",
            "src/proxy/evidence.rs::an_echo_is_found_however_it_is_written_and_cut",
        ]),
    ),
    (
        "A-07",
        "no crash, restart, lost ledger or clock gives a fresh budget",
        Shown(&[
            "tests/ledger_faults.rs::a_lost_ledger_is_not_a_first_start",
            "tests/real/crash.rs::a_restart_gives_no_new_budget",
            "tests/ledger_faults.rs::another_or_an_older_ledger_is_refused",
        ]),
    ),
    (
        "A-08",
        "no text forges a line or moves a cursor",
        Shown(&[
            "src/event/log/tests.rs::nothing_in_an_event_can_forge_a_line",
            "src/event/log/tests.rs::nothing_in_a_message_can_forge_a_line",
            "src/event/log/tests.rs::long_fields_are_cut",
            "src/cli/table.rs::nothing_moves_the_cursor",
            "tests/adversarial/agent.json#FP-G14",
            "tests/adversarial/words.json#FP-W22",
        ]),
    ),
    (
        "A-09",
        "what a refusal tells the agent is the operator's choice",
        Shown(&["tests/real/operator.rs::a_refusal_without_numbers_has_none"]),
    ),
    (
        "A-10",
        "what was judged is what is done, though names, policies and answers change meanwhile",
        Shown(&[
            "tests/real/netns.rs::a_name_that_changes_its_address_leads_to_no_other",
            "tests/payer/control.rs::an_approval_dies_and_limits_are_checked_again",
            "tests/payer/control.rs::an_approval_is_used_once_however_many_ask",
            "tests/real/crash.rs::a_reload_keeps_the_old_policy_or_takes_the_whole_new_one",
        ]),
    ),
    (
        "A-11",
        "requests get a payment and no other credential",
        Shown(&[
            "tests/wire/differ.rs::nothing_differs_but_what_must",
            "tests/real/certificates.rs::a_client_certificate_is_shown_to_its_hosts_only",
        ]),
    ),
    (
        "L-01",
        "a secret cannot be printed, and is wiped",
        Shown(&[
            "tests/threats.rs::secrets_cannot_be_printed",
            "tests/real/secrets.rs::no_secret_is_told_at_any_level",
        ]),
    ),
    (
        "L-02",
        "credentials, cookies, payments, queries and bodies are in no log",
        Shown(&[
            "tests/real/secrets.rs::no_secret_is_told_at_any_level",
            "tests/real/telemetry.rs::a_collector_reads_traces_and_logs_over_http",
            "tests/adversarial/agent.json#FP-G12",
            "tests/adversarial/agent.json#FP-G13",
        ]),
    ),
    (
        "L-03",
        "the record of a payment says who, where, what, how much, to whom and what came of it",
        Shown(&[
            "src/event/export/tests.rs::csv_has_every_field_of_an_event",
            "src/event/log/tests.rs::a_spend_event_is_one_json_object_on_its_own_line",
            "tests/real/telemetry.rs::the_spend_log_names_the_agents_step_without_any_telemetry",
            "tests/cli/books.rs::a_payment_is_listed_and_shown",
        ]),
    ),
    (
        "L-04",
        "records are a hash chain that anybody can recompute without the proxy",
        Shown(&[
            "tests/ledger_faults.rs::a_changed_byte_never_lowers_a_sum",
            "tests/cli/books.rs::a_damaged_ledger_is_exit_code_5",
            "tests/cli/ledger.rs::an_export_has_what_the_list_has",
        ]),
    ),
    (
        "L-05",
        "a crash tells nothing that was in memory",
        Shown(&[
            "src/cli/bug.rs::only_what_was_written_by_us_is_quoted",
            "src/cli/failure.rs::what_is_quoted_moves_no_cursor_and_forges_no_line",
        ]),
    ),
    (
        "L-06",
        "metrics have labels of closed lists only",
        Shown(&[
            "src/event/metrics/tests.rs::the_page_counts_what_happened",
            "tests/real/metrics.rs::the_page_is_read_by_others_and_tells_what_happened",
        ]),
    ),
    (
        "L-07",
        "the chattiest log has no more secrets than any other",
        Shown(&["tests/real/secrets.rs::no_secret_is_told_at_any_level"]),
    ),
    (
        "L-08",
        "a refusal is a problem document with a stable reason",
        Shown(&[
            "src/proxy/refuse.rs::a_refusal_explains_itself_in_headers_and_body",
            "tests/docs/main.rs::the_table_of_reasons_is_that_of_the_code",
        ]),
    ),
];
