//! The pattern that the names of partitions follow: found from names and spans, then continued.
//!
//! Must not: trust a pattern that does not give back every name that it was learnt from.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::rhythm::{Stride, local};

/// `NAMEDATALEN` - 1, in bytes.
pub const LONGEST: usize = 63;

/// What a name may speak of.
#[derive(Debug, Clone, Copy)]
pub struct NameSlot {
    /// Axis value at which the partition begins.
    pub from: i128,
    /// Axis value at which it ends.
    pub to: i128,
    /// Number of its beginning in the rhythm.
    pub index: i64,
}

/// Templates of `to_char`, those that say more first.
const FORMATS: &[&str] = &[
    "YYYYMMDDHH24MISS",
    "YYYYMMDDHH24MI",
    "YYYYMMDDHH24",
    "YYYYMMDD",
    "YYYYMM",
    "YYYYDDD",
    "YYMMDD",
    "HH24MISS",
    "YYYY",
    "IYYY",
    "YYMM",
    "MMDD",
    "HH24MI",
    "DDD",
    "YY",
    "MM",
    "DD",
    "IW",
    "HH24",
    "MI",
    "SS",
    "Q",
    "FMMM",
    "FMDD",
];
/// Names of months.
const MONTHS: &[&str] = &["mon", "Mon", "MON", "month", "Month", "MONTH"];
const MONTH: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The instant of a slot that a field speaks of.
#[derive(Debug, Clone, PartialEq)]
struct Reference {
    zone: TimeZone,
    moment: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    Last,
    End,
}

impl Reference {
    fn of(&self, slot: NameSlot) -> Option<DateTime> {
        let at = match self.moment {
            Side::Start => slot.from,
            Side::Last => slot.to - 1,
            Side::End => slot.to,
        };
        local(at, &self.zone)
    }
}

#[derive(Debug, Clone)]
enum Token {
    Text(String),
    Time(Reference, &'static str),
    /// The slot's number plus this, padded to a width.
    Counter(i64, usize),
}

impl Token {
    fn render(&self, slot: NameSlot) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Time(reference, format) => Some(to_char(format, reference.of(slot)?)),
            Self::Counter(offset, width) => {
                let number = slot.index.checked_add(*offset).filter(|n| *n >= 0)?;
                Some(format!("{number:0width$}"))
            }
        }
    }
}

/// How partitions of one table are named.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Whether the names begin with their parent's.
    prefixed: bool,
    tokens: Vec<Token>,
}

impl Pattern {
    /// The pattern of `names`, which all must follow. The first zone is that of the rhythm.
    pub fn learn(parent: &str, names: &[(&str, NameSlot)], zones: &[TimeZone]) -> Option<Self> {
        let prefixed = names.iter().all(|(name, _)| name.starts_with(parent));
        let cut = if prefixed { parent.len() } else { 0 };
        let mut rows = Vec::new();
        for (name, slot) in names {
            rows.push((pieces(name.get(cut..)?), *slot));
        }
        let width = rows.first()?.0.len();
        if rows.iter().any(|(row, _)| row.len() != width) {
            return None;
        }
        let side = |moment| zones.iter().map(move |z| Reference { zone: z.clone(), moment });
        let references: Vec<Reference> =
            side(Side::Start).chain(side(Side::Last)).chain(side(Side::End)).collect();
        let mut learner = Learner { references, used: Vec::new(), before: "" };
        let mut tokens = Vec::new();
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let runs = rows.first()?.0.iter().filter(|p| digits(p)).count();
        for column in 0..width {
            let cells: Vec<(&str, NameSlot)> =
                rows.iter().filter_map(|(row, slot)| Some((*row.get(column)?, *slot))).collect();
            tokens.push(learner.token(&cells, runs == 1)?);
            learner.before = cells.first()?.0;
        }
        learner.iso_years(&mut tokens, &rows);
        let pattern = Self { prefixed, tokens };
        let timed = pattern.tokens.iter().any(|t| !matches!(t, Token::Text(_)));
        let regenerates =
            names.iter().all(|(name, slot)| pattern.name(parent, *slot).as_deref() == Some(*name));
        (timed && regenerates).then_some(pattern)
    }

    /// The name of a slot, too long ones included. `None` where the pattern has none for it.
    pub fn name(&self, parent: &str, slot: NameSlot) -> Option<String> {
        let mut name = if self.prefixed { parent.to_owned() } else { String::new() };
        for token in &self.tokens {
            name.push_str(&token.render(slot)?);
        }
        Some(name)
    }

    /// In the terms of `to_char`: `trades_YYYY_MM_DD`.
    pub fn describe(&self, parent: &str) -> String {
        let mut text = if self.prefixed { parent.to_owned() } else { String::new() };
        for token in &self.tokens {
            match token {
                Token::Text(literal) => text.push_str(literal),
                Token::Time(_, format) => text.push_str(format),
                Token::Counter(..) => text.push_str("<number>"),
            }
        }
        text
    }
}

struct Learner<'a> {
    references: Vec<Reference>,
    used: Vec<(Reference, &'static str)>,
    /// The piece to the left.
    before: &'a str,
}

impl Learner<'_> {
    /// What stands at one place of all names. `None` where they differ in a way that is not time.
    fn token(&mut self, cells: &[(&str, NameSlot)], alone: bool) -> Option<Token> {
        let first = cells.first()?.0;
        let constant = cells.iter().all(|(text, _)| *text == first);
        let start = first.chars().next()?;
        let formats = match start {
            '0'..='9' => FORMATS,
            c if c.is_ascii_alphabetic() => MONTHS,
            _ => return constant.then(|| Token::Text(first.to_owned())),
        };
        let counter = if constant { None } else { counter(cells) };
        let mut found: Option<(bool, Token)> = None;
        for reference in &self.references {
            for format in formats {
                let short = matches!(*format, "Q" | "FMMM" | "FMDD");
                let quarter = *format == "Q" && self.before.to_lowercase().ends_with('q');
                if short && !quarter && (constant || (alone && counter.is_some())) {
                    continue;
                }
                let taken = self.used.iter().any(|(r, f)| r == reference && overlap(f, format));
                let fits = || {
                    cells.iter().all(|(text, slot)| {
                        reference.of(*slot).is_some_and(|at| to_char(format, at) == *text)
                    })
                };
                if taken || !fits() {
                    continue;
                }
                // A year, then a month, then a day, where either would do.
                let last = self.used.iter().rev().find(|(r, _)| r == reference);
                let next = last.is_none_or(|(_, f)| finest(f) + 1 == coarsest(format));
                if found.as_ref().is_none_or(|(n, _)| next && !n) {
                    found = Some((next, Token::Time(reference.clone(), format)));
                }
            }
            if found.is_some() {
                break;
            }
        }
        match (found, counter) {
            (Some((_, token)), _) => {
                if let Token::Time(reference, format) = &token {
                    self.used.push((reference.clone(), format));
                }
                Some(token)
            }
            (None, Some((offset, width))) => Some(Token::Counter(offset, width)),
            (None, None) => constant.then(|| Token::Text(first.to_owned())),
        }
    }

    /// The year that goes with an ISO week is the ISO year, though most days are in both.
    fn iso_years(&self, tokens: &mut [Token], rows: &[(Vec<&str>, NameSlot)]) {
        for column in 0..tokens.len() {
            let Some(Token::Time(reference, "YYYY")) = tokens.get(column).cloned() else {
                continue;
            };
            let week = |t: &Token| matches!(t, Token::Time(r, "IW") if *r == reference);
            let token = Token::Time(reference.clone(), "IYYY");
            let fits = rows
                .iter()
                .all(|(row, slot)| token.render(*slot).as_deref() == row.get(column).copied());
            if tokens.iter().any(week)
                && fits
                && let Some(place) = tokens.get_mut(column)
            {
                *place = token;
            }
        }
    }
}

/// Offset and width of numbers that count with the slots.
fn counter(cells: &[(&str, NameSlot)]) -> Option<(i64, usize)> {
    let offset = |(text, slot): &(&str, NameSlot)| Some(text.parse::<i64>().ok()? - slot.index);
    let first = offset(cells.first()?)?;
    let padded = cells.iter().any(|(text, _)| text.starts_with('0') && text.len() > 1);
    let width = if padded { cells.first()?.0.len() } else { 0 };
    cells.iter().all(|cell| offset(cell) == Some(first)).then_some((first, width))
}

/// Runs of digits, of letters, and of anything else.
fn pieces(name: &str) -> Vec<&str> {
    let class = |c: char| match c {
        '0'..='9' => 0,
        c if c.is_ascii_alphabetic() => 1,
        _ => 2,
    };
    let mut found = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in name.char_indices() {
        if last.is_some_and(|l| l != class(c)) {
            found.extend(name.get(start..at));
            start = at;
        }
        last = Some(class(c));
    }
    found.extend(name.get(start..).filter(|rest| !rest.is_empty()));
    found
}

/// Units of a template, from the year (0) to the second (5).
fn units(format: &str) -> (u8, u8) {
    match format {
        "YYYYMMDDHH24MISS" => (0, 5),
        "YYYYMMDDHH24MI" => (0, 4),
        "YYYYMMDDHH24" => (0, 3),
        "YYYYMMDD" | "YYYYDDD" | "YYMMDD" => (0, 2),
        "YYYYMM" | "YYMM" => (0, 1),
        "YYYY" | "IYYY" | "YY" => (0, 0),
        "MMDD" | "DDD" => (1, 2),
        "DD" | "FMDD" => (2, 2),
        "HH24MISS" => (3, 5),
        "HH24MI" => (3, 4),
        "HH24" => (3, 3),
        "MI" => (4, 4),
        "SS" => (5, 5),
        // Months by number or name, weeks, quarters.
        _ => (1, 1),
    }
}

fn coarsest(format: &str) -> u8 {
    units(format).0
}

fn finest(format: &str) -> u8 {
    units(format).1
}

fn overlap(a: &str, b: &str) -> bool {
    coarsest(a) <= finest(b) && coarsest(b) <= finest(a)
}

/// As PostgreSQL's `to_char`, for the templates above.
fn to_char(format: &str, at: DateTime) -> String {
    let mut text = String::new();
    let mut rest = format;
    let month = MONTH.get(usize::try_from(at.month() - 1).unwrap_or(0)).copied().unwrap_or("");
    let short = month.get(..3).unwrap_or(month);
    let tokens: [(&str, String); 18] = [
        ("YYYY", format!("{:04}", at.year())),
        ("IYYY", format!("{:04}", at.date().iso_week_date().year())),
        ("YY", format!("{:02}", at.year().rem_euclid(100))),
        ("FMMM", at.month().to_string()),
        ("FMDD", at.day().to_string()),
        ("DDD", format!("{:03}", at.day_of_year())),
        ("DD", format!("{:02}", at.day())),
        ("MM", format!("{:02}", at.month())),
        ("HH24", format!("{:02}", at.hour())),
        ("MI", format!("{:02}", at.minute())),
        ("SS", format!("{:02}", at.second())),
        ("IW", format!("{:02}", at.date().iso_week_date().week())),
        ("Q", ((at.month() - 1) / 3 + 1).to_string()),
        ("month", month.to_lowercase()),
        ("Month", month.to_owned()),
        ("MONTH", month.to_uppercase()),
        ("mon", short.to_lowercase()),
        ("Mon", short.to_owned()),
    ];
    if format == "MON" {
        return short.to_uppercase();
    }
    while let Some((token, value)) = tokens.iter().find(|(token, _)| rest.starts_with(token)) {
        text.push_str(value);
        rest = rest.get(token.len()..).unwrap_or_default();
    }
    text
}

/// The scheme where no pattern was found: the parent's name, `_p`, and the beginning as YYYYMMDD,
/// with _HH24MISS behind it where partitions do not begin at the same time every day.
pub fn plain(parent: &str, slot: NameSlot, step: Stride, zone: &TimeZone) -> Option<String> {
    let at = local(slot.from, zone)?;
    let mut suffix = format!("_p{}", to_char("YYYYMMDD", at));
    if !step.whole_days() {
        suffix = format!("{suffix}_{}", to_char("HH24MISS", at));
    }
    Some(fit(parent, &suffix))
}

/// `stem` and `suffix` in 63 bytes: where it must be, the stem is cut, never the suffix.
pub fn fit(stem: &str, suffix: &str) -> String {
    let mut end = stem.len().min(LONGEST.saturating_sub(suffix.len()));
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", stem.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::partition::plan::rhythm::instant;

    fn slot(from: &str, to: &str, index: i64) -> NameSlot {
        let at = |text: &str| {
            let text =
                if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00") };
            instant(text.parse().unwrap(), &TimeZone::UTC).unwrap()
        };
        NameSlot { from: at(from), to: at(to), index }
    }

    /// Learns from the first names and generates the last.
    fn next(parent: &str, names: &[(&str, NameSlot)]) -> Option<String> {
        let (last, known) = names.split_last().unwrap();
        Pattern::learn(parent, known, &[TimeZone::UTC])?.name(parent, last.1)
    }

    #[test]
    fn continues_the_names_that_people_give() {
        let days = [
            slot("2026-12-30", "2026-12-31", 40),
            slot("2026-12-31", "2027-01-01", 41),
            slot("2027-01-01", "2027-01-02", 42),
        ];
        let months = [
            slot("2026-11-01", "2026-12-01", 7),
            slot("2026-12-01", "2027-01-01", 8),
            slot("2027-01-01", "2027-02-01", 9),
        ];
        let quarters = [
            slot("2026-04-01", "2026-07-01", 0),
            slot("2026-07-01", "2026-10-01", 1),
            slot("2026-10-01", "2027-01-01", 2),
        ];
        let weeks = [
            slot("2026-12-14", "2026-12-21", 0),
            slot("2026-12-21", "2026-12-28", 1),
            // ISO week 53 of 2026 ends in 2027; week 1 of 2027 begins on 4 January.
            slot("2026-12-28", "2027-01-04", 2),
        ];
        let hours = [
            slot("2026-11-22T22:00:00", "2026-11-22T23:00:00", 0),
            slot("2026-11-22T23:00:00", "2026-11-23T00:00:00", 1),
            slot("2026-11-23T00:00:00", "2026-11-23T01:00:00", 2),
        ];
        for (slots, names) in [
            (days, ["t_2026_12_30", "t_2026_12_31", "t_2027_01_01"]),
            (days, ["t_p20261230", "t_p20261231", "t_p20270101"]),
            (days, ["t-2026-12-30", "t-2026-12-31", "t-2027-01-01"]),
            (days, ["t_30_12_2026", "t_31_12_2026", "t_01_01_2027"]),
            (days, ["t_30dec26", "t_31dec26", "t_01jan27"]),
            (days, ["y2026m12d30", "y2026m12d31", "y2027m01d01"]),
            (days, ["t_261230", "t_261231", "t_270101"]),
            (days, ["t_2026_364", "t_2026_365", "t_2027_001"]),
            (days, ["t_2026_12_30_to_31", "t_2026_12_31_to_01", "t_2027_01_01_to_02"]),
            (days, ["t_20261230_20261231", "t_20261231_20270101", "t_20270101_20270102"]),
            (days, ["t_p98", "t_p99", "t_p100"]),
            (days, ["t_008", "t_009", "t_010"]),
            (months, ["t_2026_11", "t_2026_12", "t_2027_01"]),
            (months, ["t_202611", "t_202612", "t_202701"]),
            (months, ["T_Nov_2026", "T_Dec_2026", "T_Jan_2027"]),
            (months, ["t_2026_11_30", "t_2026_12_31", "t_2027_01_31"]),
            (months, ["2t_2026_11", "2t_2026_12", "2t_2027_01"]),
            (quarters, ["t_2026_q2", "t_2026_q3", "t_2026_q4"]),
            (quarters, ["t_2026Q2", "t_2026Q3", "t_2026Q4"]),
            (weeks, ["t_p2026w51", "t_p2026w52", "t_p2026w53"]),
            (weeks, ["t_20261214", "t_20261221", "t_20261228"]),
            (hours, ["t_2026_11_22_22", "t_2026_11_22_23", "t_2026_11_23_00"]),
            (hours, ["t_20261122_2200", "t_20261122_2300", "t_20261123_0000"]),
        ] {
            let list: Vec<(&str, NameSlot)> = names.into_iter().zip(slots).collect();
            assert_eq!(next("t", &list).as_deref(), Some(names[2]), "{names:?}");
        }
        let w1 = slot("2027-01-04", "2027-01-11", 3);
        let list = [("t_p2026w52", weeks[1]), ("t_p2026w53", weeks[2]), ("", w1)];
        assert_eq!(next("t", &list).as_deref(), Some("t_p2027w01"));
    }

    #[test]
    fn a_number_in_the_parents_name_is_no_date_and_one_name_is_enough() {
        let day = slot("2026-11-11", "2026-11-12", 0);
        let next_day = slot("2026-12-13", "2026-12-14", 1);
        let list = [("t2026_2026_11_11", day), ("", next_day)];
        assert_eq!(next("t2026", &list).as_deref(), Some("t2026_2026_12_13"));
    }

    #[test]
    fn what_does_not_give_back_all_names_is_no_pattern() {
        let days = [slot("2026-11-11", "2026-11-12", 0), slot("2026-11-12", "2026-11-13", 1)];
        for names in [
            ["t_2026_11_11", "t_2026_11_13"],
            ["t_2026_11_11", "t_2026_1112"],
            ["t_red", "t_blue"],
            ["t_1", "t_3"],
        ] {
            let list: Vec<(&str, NameSlot)> = names.into_iter().zip(days).collect();
            assert!(Pattern::learn("t", &list, &[TimeZone::UTC]).is_none(), "{names:?}");
        }
    }

    #[test]
    fn names_fit_into_63_bytes() {
        let parent = "é".repeat(31);
        let day = slot("2026-11-11", "2026-11-12", 0);
        let name = plain(&parent, day, Stride::Days(1), &TimeZone::UTC).unwrap();
        assert_eq!((name.len(), name.ends_with("é_p20261111")), (62, true), "{name}");
        let name = plain("t", day, Stride::Fixed(1), &TimeZone::UTC).unwrap();
        assert_eq!(name, "t_p20261111_000000");
    }
}
