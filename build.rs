//! Tells the binary which compiler and which revision made it, for `pgrunway_build_info`.
//!
//! Must not: fail a build that has no git (an image is built without the repository).

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = first_line(Command::new(rustc).arg("--version"));
    let version = version.as_deref().and_then(|v| v.split(' ').nth(1)).unwrap_or("unknown");
    println!("cargo::rustc-env=PGRUNWAY_RUSTC={version}");

    let revision = std::env::var("PGRUNWAY_REVISION").ok().filter(|r| !r.is_empty());
    let revision = revision
        .or_else(|| first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"])))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=PGRUNWAY_REVISION={revision}");
    println!("cargo::rerun-if-env-changed=PGRUNWAY_REVISION");
    // Moves with every commit on a branch; absent in an image, where the variable is set instead.
    println!("cargo::rerun-if-changed=build.rs");
    if std::path::Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let out = command.output().ok().filter(|o| o.status.success())?;
    String::from_utf8(out.stdout).ok()?.lines().next().map(str::to_owned)
}
