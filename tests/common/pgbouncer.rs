//! A real PgBouncer in front of a test's server, on loopback.
//!
//! `PGRUNWAY_PGBOUNCER` names another binary than the one in the usual places.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use pgrunway::cmd::cluster::Cluster;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A running PgBouncer; killed when dropped, its folder removed.
pub struct PgBouncer {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

/// Users and passwords: `mon` and `app` are roles of the server, `stats` may SHOW.
const USERS: &str = "\"mon\" \"mon\"\n\"app\" \"app\"\n\"stats\" \"stats\"\n\"admin\" \"admin\"\n";

impl PgBouncer {
    /// Starts one in transaction mode with these lines of `[databases]` (`SERVER` stands for how to
    /// reach the cluster) and settings.
    pub async fn start(cluster: &Cluster, databases: &[&str], settings: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("pgrunway-pool-").tempdir().unwrap();
        let port = free_port();
        let socket = cluster.socket_dir().display().to_string();
        let server = format!("host={socket} port={}", cluster.port());
        let mut ini = "[databases]\n".to_owned();
        for line in databases {
            ini.push_str(&line.replace("SERVER", &server));
            ini.push('\n');
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        ini.push_str(&format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\nadmin_users = admin\nstats_users = stats\n\
             pool_mode = transaction\nserver_tls_sslmode = disable\npidfile = {}\n",
            path("users"),
            path("pid"),
        ));
        for line in settings {
            ini.push_str(line);
            ini.push('\n');
        }
        std::fs::write(dir.path().join("ini"), ini).unwrap();
        std::fs::write(dir.path().join("users"), USERS).unwrap();
        let mut this = Self { child: spawn(dir.path()), dir, port };
        this.wait_ready().await;
        this
    }

    /// Starts it again after [`PgBouncer::stop`], on the same port.
    pub async fn restart(&mut self) {
        self.child = spawn(self.dir.path());
        self.wait_ready().await;
    }

    async fn wait_ready(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.try_client("stats", "stats", "pgbouncer").await.is_none() {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(Instant::now() < end, "it does not answer: {}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it at once.
    pub async fn stop(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dsn(&self, user: &str, dbname: &str) -> String {
        format!("postgresql://{user}:{user}@127.0.0.1:{}/{dbname}", self.port)
    }

    /// Other users and passwords; read at once.
    pub async fn set_users(&self, users: &str) {
        std::fs::write(self.dir.path().join("users"), users).unwrap();
        self.client("admin", "pgbouncer").await.simple_query("RELOAD").await.unwrap();
    }

    /// Another line in place of one of the configuration; read at once.
    pub async fn set(&self, old: &str, new: &str) {
        let ini = self.dir.path().join("ini");
        let text = std::fs::read_to_string(&ini).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(&ini, text.replace(old, new)).unwrap();
        self.client("admin", "pgbouncer").await.simple_query("RELOAD").await.unwrap();
    }

    async fn try_client(&self, user: &str, password: &str, dbname: &str) -> Option<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(dbname);
        let (client, connection) = config.connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// A client of the pooler; passwords are the users' names.
    pub async fn client(&self, user: &str, dbname: &str) -> Client {
        let client = self.try_client(user, user, dbname).await;
        client.unwrap_or_else(|| panic!("{user} cannot log in to {dbname}: {}", self.log()))
    }

    /// What the console shows: each row as pairs of column and value.
    pub async fn show(&self, what: &str) -> Vec<Vec<(String, String)>> {
        let client = self.client("stats", "pgbouncer").await;
        let messages = client.simple_query(&format!("SHOW {what}")).await.unwrap();
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            let cell =
                |i: usize, name: &str| (name.to_owned(), row.get(i).unwrap_or_default().to_owned());
            row.columns().iter().enumerate().map(|(i, c)| cell(i, c.name())).collect()
        })
        .collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // One that is frozen must thaw to die of anything but this.
        let _ = self.child.start_kill();
    }
}

/// The value of a column.
pub fn cell<'a>(row: &'a [(String, String)], column: &str) -> Option<&'a str> {
    row.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str())
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PGRUNWAY_PGBOUNCER") {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|dir| dir.join("pgbouncer")).find(|path| path.is_file());
    found.expect("PgBouncer is needed: scripts/deps test installs it")
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(binary());
    // It refuses to run as root, and the server's socket lets only its owner in.
    if geteuid().is_root() {
        let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).unwrap());
        let user = user.expect("a user to run PgBouncer as");
        for path in [dir.to_owned(), dir.join("ini"), dir.join("users"), dir.join("log")] {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        }
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
        .arg(dir.join("ini"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("PgBouncer starts")
}

/// Below the ephemeral ports.
fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(20_000..32_000)).find(free).unwrap()
}
