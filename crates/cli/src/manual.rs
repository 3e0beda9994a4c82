//! The command line as a whole: what reads it, its help, its completions and its manual pages come from here.

use std::fs;

use clap::builder::StyledStr;
use clap::error::Result as Parsed;
use clap::{Arg, Command, CommandFactory, FromArgMatches};
use clap_complete::{Shell, generate};
use clap_mangen::generate_to;

use crate::args::{Cli, ManArgs};
use crate::examples::examples;
use crate::exit::BadInput;
use crate::out;

/// The command line of this process, understood.
///
/// # Errors
/// A command line that is none, and one that asks for help or the version.
pub(crate) fn parsed() -> Parsed<Cli> {
    Cli::from_arg_matches(&definition().try_get_matches()?)
}

/// Every command with its options and examples.
fn definition() -> Command {
    completed(Cli::command(), "")
}

/// The command of these words with its examples. In it and below it, a negative number is an option's value.
fn completed(command: Command, words: &str) -> Command {
    let ours = examples(words);
    let help = help_after(command.get_after_help(), ours);
    let command = command.mut_args(with_negative_numbers);
    let command = match ours {
        [] => command,
        _ => command.after_help(help),
    };
    command.mut_subcommands(|below| {
        let words = format!("{words} {}", below.get_name());
        completed(below, words.trim_start())
    })
}

fn with_negative_numbers(arg: Arg) -> Arg {
    let takes_value = arg.get_action().takes_values() && !arg.is_positional();
    arg.allow_negative_numbers(takes_value)
}

fn help_after(before: Option<&StyledStr>, examples: &[&str]) -> String {
    let before = before.map_or_else(String::new, |text| format!("{text}\n\n"));
    let lines = examples.iter().map(|example| format!("\n  {example}"));
    format!("{before}Examples:{}", lines.collect::<String>())
}

/// A script by which a shell completes the program's commands and options.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(shell, &mut definition(), "gogrid", &mut script);
    Ok(out::text(&String::from_utf8(script)?)?)
}

/// The manual page of each command, in a folder.
pub(crate) fn pages(args: &ManArgs) -> anyhow::Result<()> {
    let folder = args.folder.display();
    let written =
        fs::create_dir_all(&args.folder).and_then(|()| generate_to(definition(), &args.folder));
    written.map_err(|error| {
        BadInput(format!(
            "cannot write manual pages into {folder}: {error}; name a folder you can write to"
        ))
    })?;
    out::note(format!(
        "manual pages in {folder}: `man gogrid` finds them where the folder above it is in MANPATH"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_each(command: &Command, words: &str, check: &mut dyn FnMut(&Command, &str)) {
        check(command, words);
        for below in command
            .get_subcommands()
            .filter(|below| !below.is_hide_set())
        {
            let words = format!("{words} {}", below.get_name());
            check_each(below, words.trim_start(), check);
        }
    }

    /// The words of a line after any `|` and before any `>`, as a shell takes them.
    fn words(line: &str) -> Vec<String> {
        let line = line.rsplit(" | ").next().expect("a line");
        let line = line.split(" > ").next().expect("a line");
        let parts = line.split('"').enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        });
        words.collect()
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_has_two_examples_of_itself_that_are_understood() {
        check_each(&definition(), "", &mut |command, named| {
            let examples = examples(named);
            assert!(examples.len() >= 2, "{named}: {examples:?}");
            let help = command
                .get_after_help()
                .expect("it has examples")
                .to_string();
            for example in examples {
                assert!(help.contains(example), "{named}: {example}");
                let words = words(example);
                assert!(
                    words
                        .join(" ")
                        .starts_with(format!("gogrid {named}").trim()),
                    "{example}"
                );
                let parsed = definition().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{example}: {parsed:?}");
            }
        });
    }

    #[test]
    fn a_negative_number_is_a_value_of_every_option_that_takes_one() {
        check_each(&definition(), "", &mut |command, named| {
            let takes_value = |option: &&Arg| option.get_action().takes_values();
            for option in command.get_opts().filter(takes_value) {
                assert!(option.is_allow_negative_numbers_set(), "{named}: {option}");
            }
        });
    }
}
