//! Sizes and times for people, and as PostgreSQL's settings take them.
//!
//! Must not: round a recommendation up beyond what it was derived from.

const KIB: f64 = 1_024.0;
const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];

/// Bytes for people, by powers of 1024 and PostgreSQL's names for them: `1.5 GB`.
pub fn bytes(value: f64) -> String {
    let mut scaled = value;
    let mut unit = 0;
    while scaled.abs() >= KIB && unit + 1 < UNITS.len() {
        scaled /= KIB;
        unit += 1;
    }
    let digits = if unit == 0 || scaled.abs() >= 100.0 || scaled.fract() == 0.0 { 0 } else { 1 };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

/// Seconds for people: `850 us`, `22.4 ms`, `3.0 s`, `15 min`, `7.5 h`, `30 d`.
pub fn seconds(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        0.0 => (0.0, "s"),
        v if v < 1e-3 => (value * 1e6, "us"),
        v if v < 1.0 => (value * 1e3, "ms"),
        v if v < 120.0 => (value, "s"),
        v if v < 7_200.0 => (value / 60.0, "min"),
        v if v < 172_800.0 => (value / 3_600.0, "h"),
        _ => (value / 86_400.0, "d"),
    };
    let digits = if scaled.abs() >= 100.0 || scaled.fract() == 0.0 { 0 } else { 1 };
    format!("{scaled:.digits$} {unit}")
}

/// A large number for people: `1,234,567`.
pub fn thousands(n: f64) -> String {
    let digits = format!("{:.0}", n.abs());
    let mut out = String::from(if n < -0.5 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Unix seconds for people, in UTC.
pub fn instant(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "jiff refuses what is out of range")]
    match jiff::Timestamp::from_second(seconds as i64) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{seconds:.0} s since 1970"),
    }
}

/// Bytes as the value of a setting, rounded down: to whole GB from 4 GB, to 256 MB from 1 GB, else
/// to whole MB, never less than one.
pub fn setting(value: f64) -> String {
    const MB: f64 = KIB * KIB;
    let megabytes = value / MB;
    let step = match megabytes {
        m if m >= 4_096.0 => 1_024.0,
        m if m >= 1_024.0 => 256.0,
        _ => 1.0,
    };
    let megabytes = ((megabytes / step).floor() * step).max(1.0);
    if megabytes % 1_024.0 == 0.0 {
        format!("{}GB", megabytes / 1_024.0)
    } else {
        format!("{megabytes}MB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people_and_for_settings() {
        let gb = KIB.powi(3);
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1_536.0), "1.5 kB");
        assert_eq!(bytes(4.0 * gb), "4 GB");
        assert_eq!(seconds(0.0224), "22.4 ms");
        assert_eq!(seconds(900.0), "15 min");
        assert_eq!(seconds(0.0), "0 s");
        assert_eq!(instant(0.0), "1970-01-01 00:00:00 UTC");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(-999.0), "-999");
        assert_eq!(setting(4.0 * gb), "4GB");
        assert_eq!(setting(5.9 * gb), "5GB");
        assert_eq!(setting(1.3 * gb), "1280MB");
        assert_eq!(setting(100.5 * KIB * KIB), "100MB");
        assert_eq!(setting(0.0), "1MB");
    }
}
