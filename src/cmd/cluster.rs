//! A throwaway PostgreSQL server in a temporary folder, for the demo and for our own tests.
//!
//! Must not: touch a server that it did not start, listen beyond loopback, or leave anything behind.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, User, geteuid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a server may take to answer after its start, crash recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before it becomes an immediate one.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Below the ephemeral ports, so that no outgoing connection holds one by chance.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// `sockaddr_un.sun_path` less its NUL, on Linux; other systems have a little less.
const SOCKET_PATH_MAX: usize = 107;
/// What every folder of ours is called, followed by our pid and the port.
const PREFIX: &str = "pgrunway-";
/// Locked by its owner for as long as that lives, so that a later run can tell what is orphaned.
const OWNER: &str = "owner.lock";
/// Outlives us when we are killed without a chance to clean up, and does so in our place: its
/// standard input ends when we do. The pid file is believed only if that process works in our
/// folder (its pid could be somebody else's by now); where `/proc` cannot tell, the postmaster is
/// left to notice that its folder is gone, which it does within a minute.
const GUARDIAN: &str = r#"
trap '' HUP INT TERM
read -r word
[ "$word" = done ] && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
  kill -QUIT "$pid"
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
fi
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Folder with `initdb` and `postgres`; found by [`find_binaries`] if not given.
    pub binaries: Option<PathBuf>,
    /// Settings for `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// A folder in which to keep what initdb makes, and to copy it from: for who starts many servers.
    pub kept: Option<PathBuf>,
    /// Lines put before the default `pg_hba.conf` (local trust inside a private folder,
    /// SCRAM on loopback).
    pub hba: Vec<String>,
}

/// A running server, owned by this process. Dropping it kills the server and removes its folder;
/// if this process is killed first, a small shell that waits for its end does so.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    dir: PathBuf,
    port: u16,
    owner: Option<User>,
    /// `initdb` or `cp`, then the postmaster; leads its own process group.
    child: Option<Child>,
    guardian: Option<std::process::Child>,
    _lock: std::fs::File,
}

fn complete(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

/// Finds a folder with PostgreSQL's server programs: `PGRUNWAY_PG_BINDIR`, PATH, `pg_config`, then
/// where Debian, Red Hat and others put them, the newest major first.
///
/// # Errors
/// There is no such folder; what to install.
pub fn find_binaries() -> anyhow::Result<PathBuf> {
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
    /// behind when this fails or is dropped half-way.
    ///
    /// # Errors
    /// A program or folder is missing, or the server did not answer in time, with the end of its log.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let mut cluster = Self::claim(options)?;
        cluster.create(options).await?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Makes the folder and everything that will see to its removal.
    fn claim(options: &Options) -> anyhow::Result<Self> {
        let binaries = match &options.binaries {
            Some(dir) if complete(dir) => dir.clone(),
            Some(dir) => bail!("{} holds no initdb and postgres", dir.display()),
            None => find_binaries()?,
        };
        let owner = unprivileged()?;
        let port = free_port()?;
        // Resolved, because the guardian compares it with what the system says of a process.
        let parent = temp_dir()?;
        let dir = parent.join(format!("{PREFIX}{}-{port}", std::process::id()));
        let socket = dir.join(format!(".s.PGSQL.{port}"));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            bail!(
                "the path of a Unix socket may have {SOCKET_PATH_MAX} bytes, and {} has more; set \
                 TMPDIR to a folder with a shorter path",
                socket.display()
            );
        }
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        // Locked before it has its name, or another run could take the folder for an orphan.
        let claimed = (|| {
            let unnamed = dir.join("owner.new");
            let lock = std::fs::File::create(&unnamed)?;
            lock.lock()?;
            std::fs::rename(&unnamed, dir.join(OWNER))?;
            if let Some(owner) = &owner {
                chown(&dir, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
            }
            std::io::Result::Ok(lock)
        })();
        let lock = match claimed {
            Ok(lock) => lock,
            Err(e) => {
                let _ = std::fs::remove_dir_all(&dir);
                return Err(e).with_context(|| format!("cannot prepare {}", dir.display()));
            }
        };
        // From here on Drop cleans up, whatever fails.
        let mut cluster =
            Self { binaries, dir, port, owner, child: None, guardian: None, _lock: lock };
        cluster.guardian = Some(cluster.guard()?);
        Ok(cluster)
    }

    fn guard(&self) -> anyhow::Result<std::process::Child> {
        use std::os::unix::process::CommandExt;
        std::process::Command::new("sh")
            .args(["-c", GUARDIAN, "pgrunway-guardian"])
            .arg(&self.dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run sh")
    }

    async fn create(&mut self, options: &Options) -> anyhow::Result<()> {
        match &options.kept {
            None => self.initdb().await?,
            Some(folder) => {
                let kept = folder.join(format!("initdb-{}", fingerprint(&self.binaries)?));
                if kept.is_dir() {
                    self.copy(&kept, &self.data()).await?;
                } else {
                    self.initdb().await?;
                    self.keep(&kept).await?;
                }
            }
        }
        // Before 14 a password would be kept as MD5, and pg_hba.conf below asks for SCRAM.
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             unix_socket_permissions = 0700\nfsync = off\nsynchronous_commit = off\n\
             full_page_writes = off\nlogging_collector = off\n\
             password_encryption = 'scram-sha-256'\n",
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

    async fn initdb(&mut self) -> anyhow::Result<()> {
        let mut initdb = self.command("initdb");
        initdb.arg("--pgdata").arg(self.data());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--no-sync");
        self.run("initdb", initdb).await
    }

    /// Keeps what initdb made for the next server; who comes second finds it there.
    async fn keep(&mut self, kept: &Path) -> anyhow::Result<()> {
        let unnamed = kept.with_extension(format!("{}-{}", std::process::id(), self.port));
        if let Some(parent) = kept.parent() {
            std::fs::create_dir_all(parent)?;
        }
        self.copy(&self.data(), &unnamed).await?;
        if std::fs::rename(&unnamed, kept).is_err() {
            std::fs::remove_dir_all(&unnamed)?;
        }
        Ok(())
    }

    /// Copies a data folder with its owner; as ourselves, since the folder that keeps it may be one that the
    /// server's user cannot enter.
    async fn copy(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(from).arg(to).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        self.run("cp", copy).await
    }

    /// Runs a program that fills the folder, to its end.
    async fn run(&mut self, program: &str, mut command: Command) -> anyhow::Result<()> {
        let output = self.dir.join(format!("{program}.log"));
        let log = std::fs::File::create(&output)?;
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        let status = self.child.insert(child).wait().await?;
        self.child = None;
        if !status.success() {
            let said = tail(&output);
            let remedy = match &self.owner {
                Some(owner) if said.contains("Permission denied") => {
                    format!("; set TMPDIR to a folder that the user {} can enter", owner.name)
                }
                _ => String::new(),
            };
            bail!("{program} ended with {status}: {said}{remedy}");
        }
        Ok(())
    }

    /// A hot standby that streams from this server, in a folder and on a port of its own. Returns
    /// when it answers; it may lag behind. The server is restarted for it: a copy of a server at rest
    /// needs no program but `cp`, while pg_basebackup comes with few of the packaged servers.
    ///
    /// # Errors
    /// The copy failed, or one of the two did not come up.
    pub async fn standby(&mut self) -> anyhow::Result<Self> {
        let binaries = Some(self.binaries.clone());
        let mut standby = Self::claim(&Options { binaries, ..Options::default() })?;
        self.stop().await?;
        let mut copy = standby.command("/bin/cp");
        copy.arg("-a").arg(self.data()).arg(standby.data());
        let copied = standby.run("cp", copy).await;
        self.launch().await?;
        copied?;
        standby.follow(self).await?;
        Ok(standby)
    }

    /// Makes this server, which stops for it, a standby of another one that has its history.
    ///
    /// # Errors
    /// It did not stop, or did not come up.
    pub async fn follow(&mut self, primary: &Self) -> anyhow::Result<()> {
        self.stop().await?;
        std::fs::write(self.data().join("standby.signal"), "")?;
        // The last line wins over those of the primary, whose file this may be a copy of.
        let conf = format!(
            "port = {}\nunix_socket_directories = '{}'\n\
             primary_conninfo = 'host={} port={} user=postgres'\n",
            self.port,
            self.dir.display(),
            primary.dir.display(),
            primary.port
        );
        append(&self.data().join("postgresql.conf"), &conf)?;
        self.launch().await
    }

    /// Undoes with pg_rewind, which comes with few of the packaged servers, what this server has beyond another one's
    /// history, and makes it a standby of that.
    ///
    /// # Errors
    /// pg_rewind failed; as [`Cluster::follow`].
    pub async fn rewind(&mut self, primary: &Self) -> anyhow::Result<()> {
        self.stop().await?;
        // Ours, and not to be written by the server's user.
        std::fs::remove_file(self.log_path())?;
        let mut rewind = self.command("pg_rewind");
        rewind.arg("--target-pgdata").arg(self.data()).arg("--no-sync").arg(format!(
            "--source-server=host={} port={} user=postgres dbname=postgres",
            primary.dir.display(),
            primary.port
        ));
        self.run("pg_rewind", rewind).await?;
        self.follow(primary).await
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
        self.child = Some(child);
        let limit = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.child = None;
                let said = self.log_tail();
                // The extension is a package of its own on some systems.
                let remedy = match said.contains("could not access file") {
                    true => "; install PostgreSQL's contrib package (postgresql-contrib)",
                    false => "",
                };
                bail!("postgres ended with {status}: {said}{remedy}");
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

    /// A server program, or another one by its absolute path, run as the cluster's owner (root may
    /// not run PostgreSQL).
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
        tail(&self.log_path())
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
        let host: String = self
            .dir
            .as_os_str()
            .as_bytes()
            .iter()
            .map(|&byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        format!("postgresql:///{dbname}?host={host}&port={}&user={user}", self.port)
    }

    /// Pid of the postmaster, while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok())
    }

    /// Fast shutdown; the folder stays, so that [`Cluster::restart`] can follow.
    ///
    /// # Errors
    /// The server could neither be stopped nor killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            kill(Pid::from_raw(pid), Signal::SIGINT)?;
        }
        if let Some(mut child) = self.child.take()
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
    ///
    /// # Errors
    /// It did not stop, or did not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.launch().await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let (Some(pid), Some(child)) = (self.pid(), self.child.as_mut()) {
            // Immediate shutdown: the data is about to go, and Drop may not wait long. The group,
            // because initdb has children of its own.
            let group = Pid::from_raw(pid);
            let _ = killpg(group, Signal::SIGCONT);
            let _ = killpg(group, Signal::SIGQUIT);
            if !patiently(|| !matches!(child.try_wait(), Ok(None))) {
                let _ = killpg(group, Signal::SIGKILL);
            }
        }
        // A process on its way out may still write.
        patiently(|| !self.dir.exists() || std::fs::remove_dir_all(&self.dir).is_ok());
        if let Some(mut guardian) = self.guardian.take() {
            if let Some(mut stdin) = guardian.stdin.take() {
                let _ = stdin.write_all(b"done\n");
            }
            let _ = guardian.wait();
        }
    }
}

/// Tries for at most 2 s.
fn patiently(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..100 {
        if done() {
            return true;
        }
        #[expect(clippy::disallowed_methods, reason = "Drop cannot await; at most 2 s")]
        std::thread::sleep(Duration::from_millis(20));
    }
    done()
}

/// Removes what earlier runs left because they and their guardians were killed together: folders
/// in the temporary folder with our name, a lock file of ours that nobody holds, and an owner that
/// a server of ours could have. Returns them.
///
/// # Errors
/// The temporary folder cannot be read, or no user may own a server.
pub fn sweep() -> anyhow::Result<Vec<PathBuf>> {
    let server = unprivileged()?.map_or(geteuid(), |user| user.uid).as_raw();
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(temp_dir()?)?.flatten() {
        let dir = entry.path();
        let ours = |uid: u32| uid == geteuid().as_raw() || uid == server;
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            || !dir.symlink_metadata().is_ok_and(|meta| meta.is_dir() && ours(meta.uid()))
        {
            continue;
        }
        let lock = dir.join(OWNER);
        let mine = |meta: std::fs::Metadata| meta.is_file() && meta.uid() == geteuid().as_raw();
        if !lock.symlink_metadata().is_ok_and(mine) {
            continue;
        }
        let Ok(lock) = std::fs::File::open(lock) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        // A postmaster that is left is stopped if it is certain that it is that folder's;
        // otherwise it stops by itself within a minute, when it finds its folder gone.
        let data = dir.join("data");
        let pid = std::fs::read_to_string(data.join("postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().next().and_then(|line| line.trim().parse().ok()));
        if let Some(pid) = pid.filter(|pid: &i32| *pid > 1)
            && std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            patiently(|| kill(Pid::from_raw(pid), None).is_err());
        }
        if std::fs::remove_dir_all(&dir).is_ok() {
            removed.push(dir);
        }
    }
    Ok(removed)
}

/// Tells one installation of the server's programs from another, in the name of a file.
fn fingerprint(binaries: &Path) -> anyhow::Result<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    for program in ["initdb", "postgres"] {
        let path = binaries.join(program).canonicalize()?;
        let meta = path.metadata()?;
        (path, meta.len(), meta.mtime(), meta.mtime_nsec()).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn temp_dir() -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir();
    dir.canonicalize().with_context(|| format!("no temporary folder {}", dir.display()))
}

/// The last lines of a log, on one line.
fn tail(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|l| !l.trim().is_empty()).rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
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
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
