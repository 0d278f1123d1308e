//! How far apart the runs of a cron schedule can be.
//!
//! Must not: read a clock, or know who runs what.

use jiff::civil::Date;

const DAY: u32 = 24 * 60;
/// Nine years hold two leap days and each day of the year on each weekday.
const DAYS: usize = 9 * 366;

/// One field: which values it allows, and whether it begins with a star.
struct Field {
    allowed: u64,
    star: bool,
    /// `$`: the last day of the month.
    last: bool,
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Field {
    /// Lists of numbers, names, ranges and steps, as cron reads them.
    fn parse(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Option<Self> {
        let mut field = Self { allowed: 0, star: text.starts_with('*'), last: false };
        let number = |text: &str| {
            let name = names.iter().position(|n| n.eq_ignore_ascii_case(text));
            let value = match name {
                Some(at) => u32::try_from(at).ok()? + first,
                None => text.parse().ok()?,
            };
            (least..=most).contains(&value).then_some(value)
        };
        for part in text.split(',') {
            if part == "$" && most == 31 {
                field.last = true;
                continue;
            }
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, step.parse().ok().filter(|s| *s > 0)?),
                None => (part, 1),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (least, most),
                Some((from, to)) => (number(from)?, number(to)?),
                None if range == part => (number(range)?, number(range)?),
                None => return None,
            };
            if from > to {
                return None;
            }
            for value in (from..=to).step_by(step) {
                field.allowed |= 1 << value;
            }
        }
        Some(field)
    }

    fn has(&self, value: u32) -> bool {
        self.allowed >> value & 1 == 1
    }
}

/// The longest time between two runs in seconds, clock changes left out: of five fields, `@daily` and
/// its like, or `30 seconds`. `None` for what is none of them, or never comes.
pub fn longest_gap(schedule: &str) -> Option<f64> {
    let schedule = schedule.trim();
    let fields: Vec<&str> = match schedule.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => vec!["0", "0", "1", "1", "*"],
        "@monthly" => vec!["0", "0", "1", "*", "*"],
        "@weekly" => vec!["0", "0", "*", "*", "0"],
        "@daily" | "@midnight" => vec!["0", "0", "*", "*", "*"],
        "@hourly" => vec!["0", "*", "*", "*", "*"],
        _ => schedule.split_ascii_whitespace().collect(),
    };
    if let [count, unit] = fields.as_slice() {
        let seconds: u32 = count.parse().ok()?;
        let known = ["second", "seconds"].iter().any(|s| s.eq_ignore_ascii_case(unit));
        return (known && (1..60).contains(&seconds)).then(|| f64::from(seconds));
    }
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return None };
    let minute = Field::parse(minute, 0, 59, &[], 0)?;
    let hour = Field::parse(hour, 0, 23, &[], 0)?;
    let day = Field::parse(day, 1, 31, &[], 0)?;
    let month = Field::parse(month, 1, 12, MONTHS, 1)?;
    let mut weekday = Field::parse(weekday, 0, 7, WEEKDAYS, 0)?;
    // Sunday is 0 and 7.
    weekday.allowed |= weekday.allowed >> 7 & 1;

    let times: Vec<u32> = (0..DAY).filter(|at| hour.has(at / 60) && minute.has(at % 60)).collect();
    let (first, last) = (*times.first()?, *times.last()?);
    let mut longest = times.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    let mut previous: Option<u32> = None;
    let mut runs = 0;
    for (number, date) in
        (0u32..).zip(Date::constant(2001, 1, 1).series(jiff::Span::new().days(1)).take(DAYS))
    {
        let of_month = u32::from(date.day().unsigned_abs());
        let dom = day.has(of_month) || day.last && date == date.last_of_month();
        let dow = weekday.has(u32::from(date.weekday().to_sunday_zero_offset().unsigned_abs()));
        // As in cron: two that are restricted are alternatives.
        let both = if day.star || weekday.star { dom && dow } else { dom || dow };
        if !(both && month.has(u32::from(date.month().unsigned_abs()))) {
            continue;
        }
        if let Some(previous) = previous {
            longest = longest.max((number - previous) * DAY - last + first);
        }
        previous = Some(number);
        runs += 1;
    }
    (runs > 1).then(|| f64::from(longest) * 60.0)
}

#[cfg(test)]
mod tests {
    use super::longest_gap;

    #[test]
    fn the_longest_gap_of_a_schedule() {
        let day = 86_400.0;
        for (schedule, want) in [
            ("10 1 * * *", day),
            ("* * * * *", 60.0),
            ("*/7 * * * *", 420.0),
            ("0 9-17 * * *", 16.0 * 3600.0),
            ("0 9-17 * * mon-fri", 64.0 * 3600.0),
            ("0 2 * * 0", 7.0 * day),
            ("0 2 * * 7", 7.0 * day),
            ("0 3 1 1,4,7,10 *", 92.0 * day),
            ("0 3 1 jan *", 366.0 * day),
            ("0 0 1,15 * fri", 7.0 * day),
            ("0 0 */10 * fri", 182.0 * day),
            ("0 0 $ * *", 31.0 * day),
            ("0 0 29 2 *", 1461.0 * day),
            ("5,20 0-23/6 * * *", 6.0 * 3600.0 - 900.0),
            ("@hourly", 3600.0),
            ("@Weekly", 7.0 * day),
            ("30 seconds", 30.0),
        ] {
            assert_eq!(longest_gap(schedule), Some(want), "{schedule}");
        }
        for schedule in [
            "",
            "@reboot",
            "0 0 31 2 *",
            "60 * * * *",
            "5/2 * * * *",
            "9-3 * * * *",
            "a b c d e",
            "61 seconds",
            "* * * * * *",
            "*/0 * * * *",
        ] {
            assert_eq!(longest_gap(schedule), None, "{schedule}");
        }
    }
}
