//! `forebay man`: one page with every command, on stdout, as roff.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::exit::{Done, Exit};

/// Prints it.
pub(crate) fn run() -> Done {
    io::stdout().lock().write_all(&page()?)?;
    Ok(Exit::Done)
}

/// The page of the whole, then the options of each command.
fn page() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for inside in command.get_subcommands().filter(|inside| inside.get_name() != "help") {
        section(&mut text, "forebay", inside)?;
    }
    Ok(text)
}

fn section(text: &mut Vec<u8>, parent: &str, command: &clap::Command) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    writeln!(text, ".SH {}", name.to_uppercase())?;
    // What holds for every command stands at the top, once.
    let own = command.clone().mut_args(|argument| {
        let is_global = argument.is_global_set() || argument.get_id() == "help";
        argument.hide(is_global)
    });
    let has_own = own.get_arguments().any(|argument| !argument.is_hide_set());
    let man = clap_mangen::Man::new(own);
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    if has_own {
        man.render_options_section(text)?;
    }
    for inside in command.get_subcommands().filter(|inside| inside.get_name() != "help") {
        section(text, &name, inside)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_speaks_of_every_command() {
        let text = String::from_utf8(page().unwrap()).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(text.contains(&format!(".SH FOREBAY {}", command.get_name().to_uppercase())));
        }
    }
}
