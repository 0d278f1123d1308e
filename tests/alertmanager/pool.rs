//! A real PgBouncer with a pool of two connections, and clients that use it.
//!
//! Must not: need a password; it listens on loopback only.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use pgrunway::cmd::cluster::Cluster;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// A running PgBouncer; killed when dropped, its folder removed.
pub struct Pool {
    port: u16,
    dbname: String,
    _child: Child,
    dir: tempfile::TempDir,
}

impl Pool {
    /// Pools `dbname` of the cluster for the role `app`, two server connections for whole
    /// transactions.
    pub async fn start(cluster: &Cluster, dbname: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // `any` makes everybody an administrator of the console too.
        let ini = format!(
            "[databases]\n{dbname} = host={} port={} user=app\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nmax_client_conn = 50\n",
            cluster.socket_dir().display(),
            cluster.port(),
        );
        let file = dir.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("pgbouncer");
        // Debian's sbin is not in everybody's PATH.
        let path = std::env::var("PATH").unwrap();
        command.arg(&file).env("PATH", format!("{path}:/usr/sbin"));
        if geteuid().is_root() {
            // It refuses to run as root; the cluster's owner may enter its socket's folder.
            let owner =
                ["postgres", "nobody"].into_iter().find_map(|n| User::from_name(n).unwrap());
            let owner = owner.unwrap();
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
            command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("PgBouncer is needed: scripts/deps test installs it");
        let this = Self { port, dbname: dbname.to_owned(), _child: child, dir };
        let end = Instant::now() + Duration::from_secs(30);
        while this.connect().await.is_err() {
            assert!(Instant::now() < end, "PgBouncer does not answer: {}", this.log());
            sleep(Duration::from_millis(100)).await;
        }
        this
    }

    /// Where its console is.
    pub fn console(&self) -> String {
        format!("postgresql://app@127.0.0.1:{}/pgbouncer?sslmode=disable", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("app").dbname(&self.dbname);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Six clients that hold a connection for a moment, or for two seconds while idle.
pub struct Holders {
    long: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Holders {
    pub async fn start(pool: &Pool) -> Self {
        let long = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let client = pool.connect().await.unwrap();
            let long = long.clone();
            tasks.spawn(async move {
                loop {
                    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
                    if long.load(Ordering::Relaxed) {
                        sleep(Duration::from_secs(2)).await;
                    }
                    client.batch_execute("COMMIT").await.unwrap();
                    sleep(Duration::from_millis(200)).await;
                }
            });
        }
        Self { long, _tasks: tasks }
    }

    pub fn hold(&self, long: bool) {
        self.long.store(long, Ordering::Relaxed);
    }
}
