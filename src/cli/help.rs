//! What the help shows of the settings, and what else is made of the same command: shell completions and man pages.
//!
//! Must not: decide what a command line means.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;

use super::{COLLECTORS, SETTINGS, command};
use crate::config::KnownCollector;

/// The subcommand whose help is all settings.
const ALL_SETTINGS: &str = "settings";
/// Under the options of each other subcommand.
const POINTER: &str = "Name the server as for `serve` (--dsn, DATA_SOURCE_NAME, PG*); `pgrunway help settings` \
                       lists all settings, which work here too.";

/// The command whose help a line asks for: of a subcommand only its own options.
pub(super) fn for_line(command: Command, args: &[OsString]) -> Command {
    let words: Vec<_> = args.iter().skip(1).map(|arg| arg.to_string_lossy()).collect();
    let asks = words.iter().any(|w| ["-h", "--help", "help"].contains(&&**w));
    let names = |name: &str| words.iter().any(|w| *w == name);
    let of_one = command.get_subcommands().any(|c| names(c.get_name()));
    if asks && of_one && !names(ALL_SETTINGS) { without_settings(command) } else { command }
}

fn without_settings(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let of_settings = [SETTINGS, COLLECTORS].map(Some).contains(&arg.get_help_heading());
            if of_settings { arg.hide(true) } else { arg }
        })
        .mut_subcommands(|c| if c.get_name() == ALL_SETTINGS { c } else { c.after_help(POINTER) })
}

/// Writes the completions for a shell.
///
/// # Errors
/// Those of the output.
pub fn completions(shell: Shell, known: &[KnownCollector], out: &mut dyn Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(known), "pgrunway", &mut script);
    out.write_all(&script)
}

/// The man pages: the name of each file and what is in it. `pgrunway(1)` lists all settings, the page of a subcommand
/// its own options.
///
/// # Errors
/// None, but for want of memory.
pub fn man_pages(known: &[KnownCollector]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let page = |command: Command, name: String| -> io::Result<_> {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).title(name.to_uppercase()).render(&mut text)?;
        Ok((format!("{name}.1"), text))
    };
    let mut pages = vec![page(command(known), "pgrunway".to_owned())?];
    let mut own = without_settings(command(known));
    own.build();
    for sub in own.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let name = format!("pgrunway-{}", sub.get_name());
        let sub = sub.clone().version(env!("CARGO_PKG_VERSION")).name(name.clone());
        pages.push(page(sub.bin_name(name.replace('-', " ")), name)?);
    }
    Ok(pages)
}
