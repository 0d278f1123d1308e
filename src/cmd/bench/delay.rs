//! What a call took apart from what others did to it: where client and backend are processes of this
//! machine, the kernel's scheduler tells for how long each ran and for how long each was ready to
//! run and had to wait for a processor.
//!
//! Must not: be needed; where it cannot be told, latencies are compared as they were measured.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Time in which neither ran nor waited is the backend's waiting for a disk or a lock only if there
/// is more of it than this; less may be the client's own work, which is not told apart.
const LEAST_BLOCKED: u64 = 200_000;

/// The scheduler's accounts of a thread of ours and of its backend.
#[derive(Debug)]
pub struct Accounts {
    client: File,
    backend: File,
}

/// One look at both, in nanoseconds since some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The backend's time on a processor.
    backend_ran: u64,
    /// Both together: time ready to run, without a processor.
    waited: u64,
}

impl Accounts {
    /// For the thread that calls this, and the backend of this process number. `None` where the kernel
    /// keeps no such account, or where that number is no PostgreSQL process of the database: the
    /// server is on another machine, or in a container that counts its own.
    pub fn open(backend: i32, database: &str) -> Option<Self> {
        let title = std::fs::read(format!("/proc/{backend}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title);
        if !(title.contains("postgres") && title.contains(database)) {
            return None;
        }
        let accounts = Self {
            client: File::open("/proc/thread-self/schedstat").ok()?,
            backend: File::open(format!("/proc/{backend}/schedstat")).ok()?,
        };
        accounts.look().map(|_| accounts)
    }

    /// Between calls the backend sleeps, so that its account is settled.
    pub fn look(&self) -> Option<Look> {
        let (client, backend) = (read(&self.client)?, read(&self.backend)?);
        Some(Look { backend_ran: backend.0, waited: client.1.checked_add(backend.1)? })
    }
}

/// Time on a processor and time waiting for one (Documentation/scheduler/sched-stats.rst).
fn read(file: &File) -> Option<(u64, u64)> {
    let mut buffer = [0; 128];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Nanoseconds for which the backend ran or was blocked, of a call that took `took` of them.
///
/// What both waited is taken off, even where one waited while the other ran; what is left is at least
/// what the backend ran.
pub fn undisturbed(took: u64, before: Look, after: Look) -> u64 {
    let ran = after.backend_ran.saturating_sub(before.backend_ran);
    let waited = after.waited.saturating_sub(before.waited);
    let blocked = took.saturating_sub(waited).saturating_sub(ran);
    ran + if blocked < LEAST_BLOCKED { 0 } else { blocked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_postgres_is_refused() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Accounts::open(own, "no such database").is_none());
        assert!(Accounts::open(-1, "postgres").is_none());
    }

    #[test]
    fn waits_are_taken_off_and_blocks_are_not() {
        let look = |backend_ran, waited| Look { backend_ran, waited };
        let of =
            |took, ran: u64, waited: u64| undisturbed(took, look(5, 7), look(5 + ran, 7 + waited));
        // Alone: what the client did is not counted.
        assert_eq!(of(1_100_000, 1_000_000, 0), 1_000_000);
        // Kept waiting, and by more than there was to wait, while the other ran.
        assert_eq!(of(5_100_000, 1_000_000, 4_000_000), 1_000_000);
        assert_eq!(of(1_500_000, 1_000_000, 1_200_000), 1_000_000);
        // Asleep, for a lock, a disk or pg_sleep.
        assert_eq!(of(9_000_000, 1_000_000, 3_000_000), 6_000_000);
    }
}
