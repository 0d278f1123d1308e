//! A password that a program prints: a token of a cloud's, a secret of a vault's. Run at a connect, its answer kept for
//! a while for the others of the same target.
//!
//! Must not: run a shell, log or keep what the program says on standard error (it may be a secret), or leave it
//! running.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, sink};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::config::{Connect, Endpoint, PasswordCommand, Secret};
use crate::error::{ConnectError, Source};

/// Tokens of clouds have up to a few thousand bytes.
const LONGEST: usize = 16 << 10;

/// The password that the command prints, or printed not long ago.
///
/// # Errors
/// It cannot be run, fails, prints none, or takes too long.
pub(super) async fn password(
    command: &PasswordCommand,
    connect: &Connect,
    endpoint: &Endpoint,
    datname: &str,
) -> Result<String, ConnectError> {
    // Held while it runs, so that both workers of a target run it once.
    let mut kept = command.kept.lock().await;
    if let Some((secret, at)) = &*kept
        && at.elapsed() < command.ttl
    {
        return Ok(secret.expose().to_owned());
    }
    *kept = None;
    let line = run(command, connect, endpoint, datname).await.map_err(|source| {
        let program = command.argv.first().map(String::as_str).unwrap_or_default();
        ConnectError::Credentials { what: format!("password_command {program}"), source }
    })?;
    *kept = Some((Secret::new(&line), Instant::now().into_std()));
    Ok(line)
}

/// Forgets what was printed: the server did not take it.
pub(super) async fn forget(command: &PasswordCommand) {
    *command.kept.lock().await = None;
}

async fn run(
    command: &PasswordCommand,
    connect: &Connect,
    endpoint: &Endpoint,
    datname: &str,
) -> Result<String, Source> {
    let Some((program, args)) = command.argv.split_first() else {
        return Err("it is empty".into());
    };
    let (host, port) = match endpoint {
        Endpoint::Tcp { host, port } => (host.clone(), port),
        Endpoint::Unix { directory, port } => (directory.display().to_string(), port),
    };
    let mut child = Command::new(program)
        .args(args)
        .env("PGHOST", host)
        .env("PGPORT", port.to_string())
        .env("PGUSER", &connect.user)
        .env("PGDATABASE", datname)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("it cannot be run: {e}"))?;
    let mut group = ProcessGroup(child.id().and_then(|id| i32::try_from(id).ok()));
    let mut stdout = child.stdout.take().ok_or("its output cannot be read")?;
    let answer = async {
        let line = first_line(&mut stdout).await?;
        // What else it prints is read, so that it does not wait for that; its children may keep the pipe.
        let mut rest = sink();
        let mut drained = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                end = tokio::io::copy(&mut stdout, &mut rest), if !drained => {
                    drained = true;
                    end?;
                }
            }
        };
        Ok::<(Vec<u8>, ExitStatus), Source>((line, status))
    };
    let (line, status) = match timeout(command.timeout, answer).await {
        // The group is killed as it is dropped.
        Err(_) => return Err(too_long(command.timeout)),
        Ok(outcome) => outcome?,
    };
    group.0 = None;
    if !status.success() {
        return Err(format!("it ended with {status}; run it by hand to see why").into());
    }
    let line = String::from_utf8(line).map_err(|_| "the first line of its output is not UTF-8")?;
    let line = line.trim_end_matches('\r').to_owned();
    if line.is_empty() {
        return Err("the first line of its output is empty".into());
    }
    if line.contains('\0') {
        return Err("the first line of its output holds a zero byte".into());
    }
    Ok(line)
}

fn too_long(limit: Duration) -> Source {
    format!("it took longer than {limit:?} and was killed").into()
}

/// Up to the end of the first line, or of the output.
async fn first_line(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Source> {
    let (mut line, mut some) = (Vec::new(), [0; 1024]);
    loop {
        let count = from.read(&mut some).await?;
        let new = some.get(..count).unwrap_or_default();
        let end = new.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(new.get(..end.unwrap_or(count)).unwrap_or_default());
        if line.len() > LONGEST {
            return Err(
                format!("the first line of its output is longer than {LONGEST} bytes").into()
            );
        }
        if count == 0 || end.is_some() {
            return Ok(line);
        }
    }
}

/// A group of processes that is killed when it is dropped before its time.
struct ProcessGroup(Option<i32>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It is not waited for yet, so nobody else can have its number.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
