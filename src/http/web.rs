//! What the web configuration says, in force: TLS, users, headers, rate limit. Read again when a file of it
//! changes; one that is broken changes nothing.
//!
//! Must not: open the port wider because a file is empty or half written, or read a file for a request.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::time::{MissedTickBehavior, interval};

use super::auth::{PasswordGuard, Users};
use super::tls;
use crate::config::web_file::{self, Pem, RateLimit, WebFile};
use crate::error::ConfigError;
use crate::render::HttpCounters;

/// How often is looked whether a file changed: a handful of `stat`s.
const LOOK: Duration = Duration::from_millis(250);
/// A file that stays broken for so many looks is reported; a certificate and its key are rarely replaced at once.
const PATIENCE: u32 = 4;
/// No web configuration is larger.
const LARGEST: u64 = 1 << 20;

/// One reading of the file.
pub(super) struct Current {
    /// TLS, where it is on.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Headers of every answer.
    pub(super) headers: HeaderMap,
    /// Who may ask.
    pub(super) users: Arc<Users>,
    rate: Option<(RateLimit, Mutex<Tokens>)>,
    not_after: Option<u64>,
}

/// What the port does beyond plain HTTP.
pub struct PortFeatures {
    file: Option<PathBuf>,
    current: RwLock<Arc<Current>>,
    /// Of the files, when they were last read.
    seen: Mutex<Vec<(PathBuf, Stamp)>>,
    pub(super) guard: PasswordGuard,
}

/// What changes with a file.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let of = std::fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()))
}

/// Requests that may come at once, as of an instant.
struct Tokens {
    left: f64,
    at: Instant,
}

impl Current {
    fn of(file: &WebFile, before: Option<&Self>) -> Result<(Self, Vec<String>), ConfigError> {
        let mut notes = file.notes.clone();
        let tls = file.tls.as_ref().map(|tls| tls::server(tls, file.http2)).transpose()?;
        let not_after = tls.as_ref().and_then(|tls| tls.not_after);
        let tls = tls.map(|tls| {
            notes.extend(tls.notes);
            tls.config
        });
        let headers = file.headers.iter().filter_map(|(name, value)| {
            // Both were checked where they were read.
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        });
        let users = Users::new(&file.users, before.map(|before| &*before.users))?;
        let rate = file.rate.map(|rate| {
            (rate, Mutex::new(Tokens { left: f64::from(rate.burst), at: Instant::now() }))
        });
        Ok((
            Self { tls, headers: headers.collect(), users: Arc::new(users), rate, not_after },
            notes,
        ))
    }

    /// Whether the rate limit lets one more request in.
    pub(super) fn admits(&self) -> bool {
        let Some((limit, tokens)) = &self.rate else { return true };
        let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let came =
            now.saturating_duration_since(tokens.at).as_secs_f64() / limit.interval.as_secs_f64();
        tokens.left = (tokens.left + came).min(f64::from(limit.burst));
        tokens.at = now;
        let one = tokens.left >= 1.0;
        if one {
            tokens.left -= 1.0;
        }
        one
    }
}

impl PortFeatures {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It, or a certificate that it names, cannot be read or used.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let (read, seen) = match file {
            Some(path) => read(path),
            None => (Ok(WebFile::default()), Vec::new()),
        };
        let (current, notes) = Current::of(&read?, None)?;
        for note in notes {
            tracing::warn!("{note}");
        }
        Ok(Self {
            file: file.map(Path::to_owned),
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(seen),
            guard: PasswordGuard::new(),
        })
    }

    /// What is in force.
    pub(super) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `https` where TLS is on, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.current().tls.is_some() { "https" } else { "http" }
    }

    /// Whether anybody who reaches the port may read it, in plain text.
    pub fn is_open(&self) -> bool {
        let current = self.current();
        current.tls.is_none() && current.users.is_empty()
    }

    /// Shows what is in force.
    pub(super) fn show(&self, counters: &HttpCounters) {
        if self.file.is_none() {
            return;
        }
        let current = self.current();
        if current.tls.is_some() {
            counters.handshakes_failed(0);
        }
        if !current.users.is_empty() {
            counters.with_passwords(["missing", "wrong", "limit"]);
        }
        counters.web_config(true);
        counters.web_certificate(current.not_after);
    }

    /// Reads the files again whenever one of them changed, for ever.
    pub(super) async fn follow(self: Arc<Self>, counters: HttpCounters) {
        if self.file.is_none() {
            return std::future::pending().await;
        }
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // How often the files were found broken in a row.
        let mut broken = 0;
        loop {
            ticks.tick().await;
            let web = self.clone();
            // A file system that hangs holds this up and nothing else.
            let looked =
                tokio::task::spawn_blocking(move || web.look(broken > 0 && broken <= PATIENCE))
                    .await;
            match looked {
                Ok(None) | Err(_) => {}
                Ok(Some(Ok(notes))) => {
                    broken = 0;
                    self.show(&counters);
                    tracing::info!("the web configuration was read again and is in force");
                    for note in notes {
                        tracing::warn!("{note}");
                    }
                }
                Ok(Some(Err(e))) => {
                    broken += 1;
                    if broken == PATIENCE {
                        counters.web_config(false);
                        tracing::error!("the web configuration stays as it was: {e}");
                    }
                }
            }
        }
    }

    /// Reads the files if one of them changed, or `again`.
    fn look(&self, again: bool) -> Option<Result<Vec<String>, ConfigError>> {
        let path = self.file.as_ref()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !again && seen.iter().all(|(path, before)| stamp(path) == *before) {
            return None;
        }
        let (file, stamps) = read(path);
        *seen = stamps;
        drop(seen);
        Some(file.and_then(|file| self.replace(&file)))
    }

    fn replace(&self, file: &WebFile) -> Result<Vec<String>, ConfigError> {
        let before = self.current();
        let (next, notes) = Current::of(file, Some(&before))?;
        let place = self.file.as_ref().map_or_else(String::new, |path| path.display().to_string());
        for (had, has, what) in [
            (before.tls.is_some(), next.tls.is_some(), "TLS"),
            (!before.users.is_empty(), !next.users.is_empty(), "passwords"),
        ] {
            if had && !has {
                let problem = format!("it turns {what} off, which a reload does not do");
                return Err(ConfigError::new(place, problem, "restart pgrunway if that is meant"));
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(notes)
    }
}

/// The file, and the stamps of all files that count, taken before they are read.
fn read(path: &Path) -> (Result<WebFile, ConfigError>, Vec<(PathBuf, Stamp)>) {
    use std::io::Read as _;
    let mut stamps = vec![(path.to_owned(), stamp(path))];
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map(|_| text)
    });
    let text = text.map_err(|e| {
        let problem = format!("cannot read {}: {e}", path.display());
        let remedy = "name a file that exists and that pgrunway may read";
        ConfigError::new("--web.config.file", problem, remedy)
    });
    let file = text.and_then(|text| web_file::parse(path, &text));
    if let Ok(WebFile { tls: Some(tls), .. }) = &file {
        for pem in [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()].into_iter().flatten() {
            if let Pem::File(path) = &pem.value {
                stamps.push((path.clone(), stamp(path)));
            }
        }
    }
    (file, stamps)
}
