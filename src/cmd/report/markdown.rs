//! A report as Markdown (CommonMark with tables).
//!
//! Must not: let a name from the database become markup.

use std::fmt::Write;

use super::document::{Block, Cell, Document, Line, TextPiece};

/// The whole report.
pub fn write(document: &Document) -> String {
    let mut out = format!("# {}\n", escape(&document.title));
    let mut listed = false;
    for block in &document.blocks {
        let list = matches!(block, Block::Verdict(..));
        if !(list && listed) {
            out.push('\n');
        }
        listed = list;
        match block {
            Block::Section(_, title) => {
                let _ = writeln!(out, "## {}", escape(title));
            }
            Block::Heading(title) => {
                let _ = writeln!(out, "### {}", escape(title));
            }
            Block::Text(text) => {
                let _ = writeln!(out, "{}", line(text, false));
            }
            Block::Verdict(mark, text) => {
                let _ = writeln!(out, "- **{}**: {}", mark.word(), line(text, false));
            }
            Block::List(lines) => {
                for text in lines {
                    let _ = writeln!(out, "- {}", line(text, false));
                }
            }
            Block::Table(table) => {
                let _ = writeln!(out, "| {} |", table.head.join(" | "));
                let first = table.rows.first();
                let rule = |i: usize| match first.and_then(|row| row.get(i)) {
                    Some(Cell::Figure(_)) => "---:",
                    _ => "---",
                };
                let rules: Vec<&str> = (0..table.head.len()).map(rule).collect();
                let _ = writeln!(out, "| {} |", rules.join(" | "));
                for row in &table.rows {
                    let cells: Vec<String> = row.iter().map(cell).collect();
                    let _ = writeln!(out, "| {} |", cells.join(" | "));
                }
            }
            Block::Code(language, text) => {
                let fence = "`".repeat(longest_run(text).max(2) + 1);
                let _ = writeln!(out, "{fence}{language}\n{}\n{fence}", text.trim_end());
            }
            Block::Plot(plot) => {
                let _ = writeln!(out, "*Plot in the HTML report: {}*", escape(plot.caption()));
            }
            Block::Source(text) => {
                let _ = writeln!(out, "*Source: {}*", escape(text));
            }
        }
    }
    out
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Line(text) => line(text, true),
        Cell::Figure(text) => escape(text).replace('|', "\\|"),
        Cell::Mark(_, word) => (*word).to_owned(),
    }
}

fn line(line: &Line, in_table: bool) -> String {
    let mut out = String::new();
    for span in &line.0 {
        match span {
            TextPiece::Text(text) => out.push_str(&escape(text)),
            TextPiece::Code(text) => out.push_str(&code(text)),
            TextPiece::Strong(text) => {
                let _ = write!(out, "**{}**", escape(text));
            }
        }
    }
    // A bar ends a table's cell even inside a code span.
    if in_table { out.replace('|', "\\|") } else { out }
}

/// A code span, whose fence is longer than any run of backticks in it. It cannot hold a line end.
fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    if text.is_empty() {
        return String::new();
    }
    let fence = "`".repeat(longest_run(&text) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' | '`' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::document::{Mark, Table, figure, name};
    use super::*;

    #[test]
    fn names_stay_names() {
        let hostile = "a`|b\n*c*<script>";
        let document = Document {
            title: "x_y".to_owned(),
            blocks: vec![
                Block::Verdict(Mark::Bad, Line::default().code(hostile).text(" & more")),
                Block::Verdict(Mark::Good, Line::from("as `it` is")),
                Block::Table(Table {
                    head: vec!["name", "size"],
                    rows: vec![vec![name(hostile), figure(None)]],
                }),
                Block::Code("sql", "SELECT '```';".to_owned()),
            ],
        };
        assert_eq!(
            write(&document),
            "# x\\_y\n\n\
             - **CRITICAL**: ``a`|b *c*<script>`` \\& more\n\
             - **OK**: as `it` is\n\n\
             | name | size |\n| --- | ---: |\n| ``a`\\|b *c*<script>`` | – |\n\n\
             ````sql\nSELECT '```';\n````\n"
        );
    }
}
