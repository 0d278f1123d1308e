//! The real binary as a child process: its arguments, its log and where it listens.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::http;

/// A running `pgrunway`; killed when dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub address: SocketAddr,
}

/// The binary with an environment that holds nothing of ours.
pub fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    // A build of another profile, where a test is run for its figures.
    let program = std::env::var_os("PGRUNWAY_EXPORTER");
    let mut command = Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_pgrunway").into()));
    command.args(args).env_clear().envs(std::env::vars().filter(|(name, _)| {
        // What PostgreSQL and the demo need to find their programs, and nothing that configures us.
        ["PATH", "HOME", "TMPDIR", "PGRUNWAY_PG_BINDIR"].contains(&name.as_str())
    }));
    command.envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary to its end: exit code, stdout, stderr.
pub async fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let out = timeout(Duration::from_secs(60), command(args, env).output()).await;
    let out = out.expect("it ends in time").unwrap();
    let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

impl Process {
    /// Starts `pgrunway serve` on a free port of loopback.
    pub async fn serve(dsn: &str, args: &[&str]) -> Self {
        let mut all = vec!["serve", "--web.listen-address=127.0.0.1:0"];
        all.extend(args);
        Self::start(&all, &[("DATA_SOURCE_NAME", dsn)]).await
    }

    pub async fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::of(command(args, env)).await
    }

    /// Starts it with a limit of open files, which it cannot raise.
    pub async fn start_with_files(files: u32, args: &[&str], env: &[(&str, &str)]) -> Self {
        let script = format!("ulimit -n {files} && exec \"$@\"");
        Self::through(&["sh", "-c", &script, "sh"], command(args, env)).await
    }

    /// Starts it by another program, which gets the whole command as its last arguments.
    pub async fn through(by: &[&str], whole: Command) -> Self {
        let whole = whole.as_std();
        let mut outer = Command::new(by[0]);
        outer.args(&by[1..]).arg(whole.get_program()).args(whole.get_args());
        outer.env_clear().envs(whole.get_envs().filter_map(|(n, v)| Some((n, v?))));
        outer.stdin(Stdio::null()).kill_on_drop(true);
        Self::of(outer).await
    }

    async fn of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let copy = log.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut tx = Some(tx);
            while let Ok(Some(line)) = lines.next_line().await {
                let listens = |scheme| line.split_once(&format!("listening on {scheme}://"));
                if let Some((_, rest)) = listens("http").or_else(|| listens("https"))
                    && let Some(tx) = tx.take()
                {
                    let _ = tx.send(rest.split('/').next().unwrap().parse().unwrap());
                }
                copy.lock().unwrap().push(line);
            }
        });
        let address = timeout(Duration::from_secs(30), rx).await;
        match address {
            Ok(Ok(address)) => Self { child, log, address },
            _ => panic!("it does not listen: {:#?}", log.lock().unwrap()),
        }
    }

    /// The exposition, which must come at once, whatever the database does.
    pub async fn metrics(&self) -> String {
        let limit = Duration::from_millis(500);
        let mut answer = http::get(self.address, "/metrics").await;
        // A machine that is busy with other tests may delay one answer, but hardly three in a row.
        for _ in 0..2 {
            if answer.took > limit {
                answer = http::get(self.address, "/metrics").await;
            }
        }
        assert_eq!(answer.status, 200);
        assert!(answer.took < limit, "{:?}", answer.took);
        answer.text()
    }

    /// Waits until the exposition satisfies `want`.
    pub async fn wait(&self, what: &str, want: impl Fn(&str) -> bool) -> String {
        self.wait_for(what, Duration::from_secs(60), want).await
    }

    /// As [`Process::wait`], for as long as this.
    pub async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        want: impl Fn(&str) -> bool,
    ) -> String {
        let begun = Instant::now();
        loop {
            let text = self.metrics().await;
            if want(&text) {
                return text;
            }
            let waited = begun.elapsed();
            assert!(waited < limit, "{what}:\n{text}\n{:#?}", self.log());
            // An exposition costs an unoptimised exporter 10 ms: what is long in coming is asked for less often.
            sleep((waited / 8).clamp(Duration::from_millis(50), Duration::from_millis(500))).await;
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A line of `/proc/PID/status` in bytes: `VmRSS` is what it takes now, `VmHWM` the most that it took.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    /// Sends a signal and waits for the end.
    pub async fn stop(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        kill(Pid::from_raw(self.pid()), signal).unwrap();
        let status = timeout(Duration::from_secs(20), self.child.wait()).await;
        (status.expect("it stops").unwrap(), start.elapsed())
    }
}
