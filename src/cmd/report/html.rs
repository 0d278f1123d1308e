//! A report as one HTML file that needs nothing else: no script, no font, no network.
//!
//! Must not: let a name from the database become markup.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::document::{Block, Cell, Document, Line, Mark, Table, TextPiece};

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The whole report.
pub fn write(document: &Document) -> String {
    // What stands before the first section, then each section with what is in it.
    let parts = document.blocks.chunk_by(|_, next| section(next).is_none());
    let sections: Vec<(&str, &str)> = document.blocks.iter().filter_map(section).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { (document.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (document.title) }
                @if sections.len() > 1 {
                    nav { ul {
                        @for (anchor, title) in &sections {
                            li { a href={ "#" (anchor) } { (title) } }
                        }
                    } }
                }
                @for part in parts { (whole(part)) }
            }
        }
    };
    // Characters that HTML does not have.
    page.into_string().replace(|c: char| c.is_control() && !matches!(c, '\n' | '\t'), "\u{fffd}")
}

fn section(block: &Block) -> Option<(&'static str, &'static str)> {
    match block {
        Block::Section(anchor, title) => Some((*anchor, *title)),
        _ => None,
    }
}

/// Blocks of which the first may begin a section.
fn whole(blocks: &[Block]) -> Markup {
    let inside = html! {
        @for block in blocks { (self::block(block)) "\n" }
    };
    match blocks.first().and_then(section) {
        None => inside,
        Some((anchor, title)) => html! {
            section id=(anchor) { h2 { (title) } (inside) }
        },
    }
}

fn block(block: &Block) -> Markup {
    html! {
        @match block {
            Block::Section(..) => {},
            Block::Heading(title) => { h3 { (title) } },
            Block::Text(text) => { p { (line(text)) } },
            Block::Verdict(mark, text) => {
                p class={ "verdict " (class(*mark)) } { (badge(*mark, mark.word())) " " (line(text)) }
            },
            Block::List(lines) => { ul { @for text in lines { li { (line(text)) } } } },
            Block::Table(table) => { (self::table(table)) },
            Block::Code(_, text) => { pre { code { (text.trim_end()) } } },
            Block::Plot(plot) => { figure { (plot.svg()) figcaption { (plot.caption()) } } },
            Block::Source(text) => { p class="source" { "Source: " (text) } },
        }
    }
}

fn table(table: &Table) -> Markup {
    let figures =
        |i: usize| matches!(table.rows.first().and_then(|row| row.get(i)), Some(Cell::Figure(_)));
    html! {
        div class="scroll" { table {
            thead { tr {
                @for (i, head) in table.head.iter().enumerate() {
                    th scope="col" class=[figures(i).then_some("figure")] { (head) }
                }
            } }
            tbody { @for row in &table.rows { tr { @for cell in row { (self::cell(cell)) } } "\n" } }
        } }
    }
}

fn cell(cell: &Cell) -> Markup {
    html! {
        @match cell {
            Cell::Line(text) => { td { (line(text)) } },
            Cell::Figure(text) => { td class="figure" { (text) } },
            Cell::Mark(mark, word) => { td { (badge(*mark, word)) } },
        }
    }
}

fn badge(mark: Mark, word: &str) -> Markup {
    html! { span class={ "badge " (class(mark)) } { (word) } }
}

fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Info => "info",
        Mark::Warning => "warning",
        Mark::Bad => "bad",
    }
}

fn line(line: &Line) -> Markup {
    html! {
        @for span in &line.0 {
            @match span {
                TextPiece::Text(text) => { (text) },
                TextPiece::Code(text) => { code { (text) } },
                TextPiece::Strong(text) => { strong { (text) } },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{figure, name};
    use super::*;

    #[test]
    fn names_stay_names_and_nothing_is_loaded() {
        let hostile = "</td><script>alert(1)</script>\" onload=\"x\u{1}";
        let document = Document {
            title: hostile.to_owned(),
            blocks: vec![
                Block::Section("summary", "Summary"),
                Block::Verdict(Mark::Bad, Line::default().code(hostile)),
                Block::Section("indexes", "Indexes"),
                Block::Table(Table {
                    head: vec!["name", "size"],
                    rows: vec![vec![name(hostile), figure(Some("1 MB".to_owned()))]],
                }),
            ],
        };
        let html = write(&document);
        assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
        assert!(!html.contains("http:") && !html.contains("https:"), "{html}");
        assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
        assert!(html.contains("<td class=\"figure\">1 MB</td>"), "{html}");
        assert!(html.contains("<li><a href=\"#indexes\">Indexes</a></li>"), "{html}");
    }
}
