//! A throwaway PostgreSQL server in a temporary folder, for the demo and for our own tests.
//!
//! Must not: touch a server that it did not start, listen beyond loopback, or leave anything behind.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take to answer after its start, crash recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before it becomes an immediate one.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Below the ephemeral ports, so that no outgoing connection holds one by chance.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder with `initdb` and `postgres`; found by [`find_binaries`] if not given.
    pub binaries: Option<PathBuf>,
    /// Settings for `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// Lines put before the default `pg_hba.conf` (local trust inside a private folder,
    /// SCRAM on loopback).
    pub hba: Vec<String>,
}

/// A running server, owned by this process. Dropping it kills the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    dir: PathBuf,
    port: u16,
    owner: Option<User>,
    postmaster: Option<Child>,
}

/// Finds a folder with PostgreSQL's server programs: `PGRUNWAY_PG_BINDIR`, PATH, `pg_config`, then
/// where Debian, Red Hat and others put them, the newest major first.
pub fn find_binaries() -> anyhow::Result<PathBuf> {
    let complete = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("PGRUNWAY_PG_BINDIR") {
        let dir = PathBuf::from(dir);
        if complete(&dir) {
            return Ok(dir);
        }
        bail!("PGRUNWAY_PG_BINDIR={} holds no initdb and postgres", dir.display());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link in PATH leads to the folder that holds the other programs too.
    let linked = std::env::split_paths(&path).find_map(|dir| {
        let real = dir.join("initdb").canonicalize().ok()?;
        real.parent().filter(|dir| complete(dir)).map(Path::to_path_buf)
    });
    if let Some(dir) = linked {
        return Ok(dir);
    }
    if let Ok(out) = std::process::Command::new("pg_config").arg("--bindir").output() {
        let dir = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
        if complete(&dir) {
            return Ok(dir);
        }
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in
        [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/usr/local", "pgsql-"), ("/opt", "pg")]
    {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let major = name.strip_prefix(prefix).and_then(|m| m.parse().ok());
            let dir = entry.path().join("bin");
            if let Some(major) = major.filter(|_| complete(&dir)) {
                found.push((major, dir));
            }
        }
    }
    found.into_iter().max_by_key(|(major, _)| *major).map(|(_, dir)| dir).context(
        "PostgreSQL's server programs (initdb, postgres) were not found; install them with \
         `apt-get install postgresql` (Debian, Ubuntu) or `dnf install postgresql-server \
         postgresql-contrib` (Fedora, Red Hat), or point PGRUNWAY_PG_BINDIR at their folder",
    )
}

impl Cluster {
    /// Creates a cluster in a new temporary folder and waits until it answers. Nothing is left
    /// behind when this fails.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let binaries = match &options.binaries {
            Some(dir) => dir.clone(),
            None => find_binaries()?,
        };
        let owner = unprivileged()?;
        let port = free_port()?;
        let dir = std::env::temp_dir().join(format!("pgrunway-{}-{port}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // From here on Drop cleans up, whatever fails.
        let mut cluster = Self { binaries, dir, port, owner, postmaster: None };
        cluster.create(options).await?;
        cluster.launch().await?;
        Ok(cluster)
    }

    async fn create(&self, options: &Options) -> anyhow::Result<()> {
        std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o700))?;
        if let Some(owner) = &self.owner {
            chown(&self.dir, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        }
        let out = self
            .command("initdb")
            .arg("--pgdata")
            .arg(self.data())
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .arg("--no-sync")
            .output()
            .await
            .context("cannot run initdb")?;
        if !out.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             unix_socket_permissions = 0700\nfsync = off\nsynchronous_commit = off\n\
             full_page_writes = off\nlogging_collector = off\n",
            self.port,
            self.dir.display()
        );
        for (name, value) in &options.settings {
            conf.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        append(&self.data().join("postgresql.conf"), &conf)?;
        let mut hba = options.hba.join("\n");
        hba.push_str("\nlocal all all trust\nlocal replication all trust\n");
        hba.push_str("host all all 127.0.0.1/32 scram-sha-256\n");
        std::fs::write(self.data().join("pg_hba.conf"), hba)?;
        Ok(())
    }

    async fn launch(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run postgres")?;
        self.postmaster = Some(child);
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) =
                self.postmaster.as_mut().map(Child::try_wait).transpose()?.flatten()
            {
                bail!("postgres ended with {status}: {}", self.log_tail());
            }
            // The postmaster writes `ready` into its pid file when it accepts connections.
            let pid_file = std::fs::read_to_string(self.data().join("postmaster.pid"));
            if pid_file.is_ok_and(|text| text.lines().nth(7).is_some_and(|l| l.trim() == "ready")) {
                return Ok(());
            }
            if Instant::now() > limit {
                bail!("postgres did not start within {START_LIMIT:?}: {}", self.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A server program, run as the cluster's owner (root may not run PostgreSQL).
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C").env("PGTZ", "UTC");
        // Its own process group: a Ctrl-C in the terminal reaches us alone, and we stop it in order.
        command.process_group(0).kill_on_drop(true);
        if let Some(owner) = &self.owner {
            command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Everything the server wrote to stderr.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("data").join("server.log")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Port on 127.0.0.1 and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the Unix socket, private to the owner and root.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of `initdb` and `postgres`.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// A connection URI over the Unix socket (no password needed).
    pub fn uri(&self, user: &str, dbname: &str) -> String {
        // A `/` must be escaped in the host part of a URI, not in its query.
        format!("postgresql:///{dbname}?host={}&port={}&user={user}", self.dir.display(), self.port)
    }

    /// Pid of the postmaster, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok())
    }

    /// Fast shutdown; the folder stays, so that [`Cluster::restart`] can follow.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            kill(Pid::from_raw(pid), Signal::SIGINT)?;
        }
        if let Some(mut child) = self.postmaster.take()
            && timeout(STOP_LIMIT, child.wait()).await.is_err()
        {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
                kill(Pid::from_raw(pid), Signal::SIGQUIT)?;
            }
            child.wait().await?;
        }
        Ok(())
    }

    /// Starts the server again on the same port and data.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.launch().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let (Some(pid), Some(child)) = (self.pid(), self.postmaster.as_mut()) {
            // Immediate shutdown: the data is about to go, and Drop may not wait long.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            for _ in 0..100 {
                if !matches!(child.try_wait(), Ok(None)) {
                    break;
                }
                #[expect(clippy::disallowed_methods, reason = "Drop cannot await; at most 2 s")]
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The user that is to own the server: `None` for ourselves, somebody else where we are root.
fn unprivileged() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")
}

fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let port = rand::random_range(PORTS);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
