//! The promises of tokenkeep to its users, one module per promise. The tests run the built program
//! as a user does, with their own tokens; `tests/support` has the machines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic"
)]

#[path = "../support/mod.rs"]
mod support;

mod administrators;
mod agent_api;
mod agent_commands;
mod agent_levels;
mod agent_memory;
mod agent_memory_release;
mod agent_module_crashes;
mod agent_process;
mod agent_secrets;
mod agent_start;
mod agent_tokens;
mod archive;
mod audit_checkpoint;
mod authority_check;
mod authority_crashes;
mod authority_service;
mod bad_replies;
mod clean_exit;
mod client_crashes;
mod cmp_endpoint;
mod command_line;
mod concurrent_enrollments;
mod concurrent_wrong_pins;
mod crashing_modules;
mod display_names;
mod doctor;
mod documents;
mod erased_tokens;
mod exported_keysets;
mod failed_enrollments;
mod faults;
mod faulty_tokens;
mod floods;
mod foreign_signatures;
mod foreign_tools;
mod forged_index;
mod forgotten_pin;
mod git_signing;
mod hostile_module;
mod json_output;
mod key_kinds;
mod keyset_names;
mod keyset_person;
mod large_files;
mod letters;
mod level_high;
mod level_high_without_support;
mod manual_pages;
mod newer_versions;
mod no_oracle;
mod object_persistence;
mod pin_tries;
mod pin_tries_in_the_agent;
mod pin_unblock;
mod prompt_answers;
mod prompt_lifetime;
mod prompters;
mod re_enrollment;
mod readers;
mod secrets;
mod several_keysets;
mod shell_completions;
mod signed_mails;
mod softhsm_configuration;
mod ssh_clients;
mod ssh_signs_only;
mod statement_files;
mod statements;
mod test_support;
mod through_the_agent;
mod token_capabilities;
mod token_choice;
mod upgrade;
mod virtual_cards;
mod walkthrough;
