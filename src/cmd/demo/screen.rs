//! What the demo writes: a line per step while it starts, then the figures, in place on a terminal.
//!
//! Must not: work out a figure, or write anywhere but to the writer it is given.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::figures::ScreenFigures;
use crate::cmd::trading::drive::{QUERIES, Tally};
use crate::collectors::statements::published::Quantiles;

/// What the writer can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// The cursor can be moved: figures are refreshed in place.
    pub in_place: bool,
    /// Colours are wanted.
    pub colour: bool,
}

impl Terminal {
    /// Neither: lines one after the other.
    pub const PLAIN: Self = Self { in_place: false, colour: false };

    /// By what standard output is, `TERM` and `NO_COLOR` (see no-color.org).
    pub fn detect() -> Self {
        Self::of(&io::stdout())
    }

    /// As [`Terminal::detect`], for another stream.
    pub fn of(stream: &impl io::IsTerminal) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let in_place = stream.is_terminal() && !dumb;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { in_place, colour: in_place && !no_colour }
    }
}

/// Pause between two lines of progress.
const TELL: Duration = Duration::from_secs(10);
/// Kinds of errors shown.
const ERROR_LINES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Bold,
    Warning,
    Alarm,
}

/// Where the demo writes.
pub struct Screen<W> {
    out: W,
    terminal: Terminal,
    step: Option<Instant>,
    /// What the line of the step begins with.
    name: String,
    /// When the step last told how far it is.
    told: Option<Instant>,
    /// Lines of figures above the cursor that the next ones replace.
    drawn: usize,
}

impl<W: Write> Screen<W> {
    /// A screen on a writer.
    pub fn new(out: W, terminal: Terminal) -> Self {
        Self { out, terminal, step: None, name: String::new(), told: None, drawn: 0 }
    }

    /// Pause between two looks at the exporter.
    pub fn refresh(&self) -> Duration {
        Duration::from_secs(if self.terminal.in_place { 1 } else { 10 })
    }

    /// Begins a step; its line is ended by [`Screen::done`].
    pub fn step(&mut self, name: &str) -> io::Result<()> {
        self.break_off()?;
        self.step = Some(Instant::now());
        self.name = format!("{name:<12}");
        self.told = None;
        write!(self.out, "{}", self.name)?;
        self.out.flush()
    }

    /// Tells how far a step is: in its place on a terminal, as a line every ten seconds elsewhere. The text
    /// is asked whether there is room for a bar.
    pub fn progress(&mut self, text: impl FnOnce(bool) -> String) -> io::Result<()> {
        let Some(began) = self.step else { return Ok(()) };
        if self.terminal.in_place {
            self.told = Some(Instant::now());
            write!(self.out, "\r\x1b[K\x1b[?7l{}{}\x1b[?7h", self.name, text(true))?;
        } else if self.told.unwrap_or(began).elapsed() >= TELL {
            self.told = Some(Instant::now());
            writeln!(self.out, "{}", text(false))?;
            write!(self.out, "{}", self.name)?;
        }
        self.out.flush()
    }

    /// Ends a step with what came of it and how long it took.
    pub fn done(&mut self, what: &str) -> io::Result<()> {
        let took = self.step.take().map_or(Duration::ZERO, |since| since.elapsed());
        if self.terminal.in_place && self.told.is_some() {
            write!(self.out, "\r\x1b[K{}", self.name)?;
        }
        writeln!(self.out, "{what} ({:.1} s)", took.as_secs_f64())?;
        self.out.flush()
    }

    /// A line of its own, also in the middle of a step.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.break_off()?;
        self.drawn = 0;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Ends the line of a step that was not ended.
    pub fn break_off(&mut self) -> io::Result<()> {
        if self.step.take().is_some() {
            writeln!(self.out)?;
        }
        Ok(())
    }

    /// Shows the figures, over the last ones where the terminal can.
    pub fn figures(&mut self, report: &Report<'_>) -> io::Result<()> {
        let lines = report.lines();
        // One write: half a picture would flicker.
        let mut text = String::new();
        if self.terminal.in_place {
            if self.drawn > 0 {
                text.push_str(&format!("\x1b[{}F\x1b[J", self.drawn));
            }
            // A wrapped line would count as two.
            text.push_str("\x1b[?7l");
        }
        for (tone, line) in &lines {
            let code = match tone {
                Tone::Plain => "",
                Tone::Bold => "\x1b[1m",
                Tone::Warning => "\x1b[33m",
                Tone::Alarm => "\x1b[31m",
            };
            if self.terminal.colour && !code.is_empty() {
                text.push_str(&format!("{code}{line}\x1b[0m\n"));
            } else {
                text.push_str(&format!("{line}\n"));
            }
        }
        if self.terminal.in_place {
            text.push_str("\x1b[?7h");
            self.drawn = lines.len();
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// One picture.
pub struct Report<'a> {
    /// What the exporter said, or why it said nothing.
    pub figures: Result<&'a ScreenFigures, String>,
    /// What the load did.
    pub tally: &'a Tally,
    /// Queries per second asked for.
    pub rate: f64,
    /// Queries per second since the last picture.
    pub reached: f64,
    /// Since the load began.
    pub running: Duration,
}

impl Report<'_> {
    fn lines(&self) -> Vec<(Tone, String)> {
        let mut lines = vec![(Tone::Plain, String::new())];
        let none = ScreenFigures::default();
        let figures = match &self.figures {
            Ok(figures) => *figures,
            Err(why) => {
                lines.push((Tone::Alarm, format!("no figures from the exporter: {why}")));
                &none
            }
        };
        if figures.up == Some(false) {
            lines.push((Tone::Alarm, "pg_up 0: the exporter cannot reach PostgreSQL".to_owned()));
        }
        let head = format!("{:<30}{:>10}{:>20}{:>12}", "latency", "p50", "p95", "p99");
        lines.push((Tone::Bold, head));
        for (query, quantiles) in QUERIES.iter().zip(&figures.latencies) {
            let Quantiles { p50, p95, p99, .. } = quantiles;
            let [p50, mut p95, p99] = [p50, p95, p99].map(|seconds| milliseconds(*seconds));
            if let Some(off) = quantiles.p95_off() {
                p95.push_str(&format!(" ±{}", milliseconds(Some(off)).trim_end_matches(" ms")));
            }
            lines.push((Tone::Plain, format!("{:<30}{p50:>10}{p95:>20}{p99:>12}", query.title())));
        }
        lines.push((Tone::Bold, "partition runway".to_owned()));
        if figures.runways.is_empty() {
            lines.push((Tone::Plain, format!("{:<30}{:>10}", "(not collected yet)", "-")));
        }
        for (table, seconds) in &figures.runways {
            let (tone, text) = runway(*seconds);
            lines.push((tone, format!("{table:<30}{text}")));
        }
        let ratio = figures.cache_hit_ratio.map_or("-".to_owned(), |r| format!("{r:.4}"));
        lines.push((Tone::Plain, format!("{:<30}{ratio:>10}", "cache hit ratio")));
        lines.push((
            Tone::Plain,
            format!(
                "load: {:.1} of {} queries/s; {} queries, {} inserts in {:.0} s",
                self.reached,
                self.rate,
                self.tally.queries(),
                self.tally.inserts(),
                self.running.as_secs_f64()
            ),
        ));
        if self.tally.missed() > 0 {
            let missed = format!("      {} calls given up, over 10 s late", self.tally.missed());
            lines.push((Tone::Warning, missed));
        }
        let errors = self.tally.errors();
        for (kind, count) in errors.iter().take(ERROR_LINES) {
            // A message may hold anything.
            let kind: String = kind.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            lines.push((Tone::Alarm, format!("      {count} errors: {kind}")));
        }
        if let Some(more) = errors.len().checked_sub(ERROR_LINES).filter(|more| *more > 0) {
            lines.push((Tone::Alarm, format!("      and {more} other kinds of errors")));
        }
        lines
    }
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or("-".to_owned(), |s| {
        let ms = s * 1e3;
        let digits = if ms < 10.0 { 2 } else { 1 };
        format!("{ms:.digits$} ms")
    })
}

/// A runway in days; a week or less is a warning, as in the shipped alert.
fn runway(seconds: f64) -> (Tone, String) {
    const DAY: f64 = 86_400.0;
    let days = seconds / DAY;
    if seconds == f64::INFINITY {
        (Tone::Plain, format!("{:>10}", "unbounded"))
    } else if seconds < 0.0 {
        (Tone::Alarm, format!("{days:>8.1} d  coverage has ended: inserts fail"))
    } else {
        (if days < 7.0 { Tone::Warning } else { Tone::Plain }, format!("{days:>8.1} d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> ScreenFigures {
        let mut figures =
            ScreenFigures { cache_hit_ratio: Some(0.998_76), ..ScreenFigures::default() };
        figures.latencies[0] = Quantiles {
            p50: Some(0.000_41),
            p95: Some(0.012_34),
            p99: Some(1.5),
            p95_low: Some(0.011),
            p95_high: Some(0.012_7),
        };
        figures.runways =
            vec![("orders".to_owned(), -22.0 * 86_400.0), ("trades".to_owned(), 29.4 * 86_400.0)];
        figures
    }

    fn show(terminal: Terminal, times: usize) -> String {
        let mut screen = Screen::new(Vec::new(), terminal);
        let (figures, tally) = (figures(), Tally::default());
        for _ in 0..times {
            let report = Report {
                figures: Ok(&figures),
                tally: &tally,
                rate: 50.0,
                reached: 49.96,
                running: Duration::from_secs(61),
            };
            screen.figures(&report).unwrap();
        }
        String::from_utf8(screen.out).unwrap()
    }

    #[test]
    fn plain_output_is_lines_without_escapes() {
        let text = show(Terminal::PLAIN, 1);
        let expected = "
latency                              p50                 p95         p99
1 active orders by symbol        0.41 ms       12.3 ms ±1.34   1500.0 ms
2 recent trades by symbol              -                   -           -
3 trade volume, 24 h                   -                   -           -
4 statistics, 24 h                     -                   -           -
5 order book depth                     -                   -           -
partition runway
orders                           -22.0 d  coverage has ended: inserts fail
trades                            29.4 d
cache hit ratio                   0.9988
load: 50.0 of 50 queries/s; 0 queries, 0 inserts in 61 s
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.len() < 80));
    }

    #[test]
    fn a_terminal_is_redrawn_in_place_and_coloured_only_if_wanted() {
        let text = show(Terminal { in_place: true, colour: false }, 2);
        assert_eq!(text.matches("\x1b[12F\x1b[J").count(), 1, "{text:?}");
        assert_eq!(text.matches("\x1b[?7l").count(), text.matches("\x1b[?7h").count());
        assert!(!text.contains("\x1b[31m"));
        let text = show(Terminal { in_place: true, colour: true }, 1);
        assert!(text.contains("\x1b[31morders"), "{text:?}");
    }

    #[test]
    fn progress_is_shown_in_place_and_gone_when_done() {
        let mut screen = Screen::new(Vec::new(), Terminal { in_place: true, colour: false });
        screen.step("data").unwrap();
        screen.progress(|bar| format!("half {bar}")).unwrap();
        screen.done("1 row").unwrap();
        let text = String::from_utf8(screen.out).unwrap();
        let step = "data        ";
        assert_eq!(
            text,
            format!("{step}\r\x1b[K\x1b[?7l{step}half true\x1b[?7h\r\x1b[K{step}1 row (0.0 s)\n")
        );

        let mut screen = Screen::new(Vec::new(), Terminal::PLAIN);
        screen.step("data").unwrap();
        screen.progress(|_| panic!("not yet due")).unwrap();
        screen.done("1 row").unwrap();
        assert_eq!(String::from_utf8(screen.out).unwrap(), format!("{step}1 row (0.0 s)\n"));
    }

    #[test]
    fn steps_end_their_lines() {
        let mut screen = Screen::new(Vec::new(), Terminal::PLAIN);
        screen.step("schema").unwrap();
        screen.done("42 partitions").unwrap();
        screen.step("data").unwrap();
        screen.line("stopped").unwrap();
        let text = String::from_utf8(screen.out).unwrap();
        assert_eq!(text, "schema      42 partitions (0.0 s)\ndata        \nstopped\n");
    }
}
