//! Errors of the driver and of PgBouncer, in words.
//!
//! Must not: hold what is not shown, or know a session.

/// An error with its causes, in one line.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// What PgBouncer refuses a login with, where that alone tells nobody what to do.
pub(super) fn explained(message: &str) -> String {
    let remedy = match message {
        "not allowed" => "PgBouncer's console is for members of stats_users and admin_users",
        text if text.starts_with("no such database") => {
            "PgBouncer does not know this database: add it to its [databases], or name it in \
             databases.exclude"
        }
        _ => return message.to_owned(),
    };
    format!("{message} ({remedy})")
}
