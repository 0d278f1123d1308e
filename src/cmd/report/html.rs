//! A report as one HTML file that needs nothing else: no script, no font, no network.
//!
//! Must not: let a name from the database become markup.

use std::fmt::Write;

use super::document::{Block, Cell, Document, Line, Mark, Span};

const STYLE: &str = include_str!("style.css");

/// The whole report.
pub fn write(document: &Document) -> String {
    let title = escape(&document.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    let sections: Vec<(&str, &str)> = document
        .blocks
        .iter()
        .filter_map(|b| match b {
            Block::Section(anchor, title) => Some((*anchor, *title)),
            _ => None,
        })
        .collect();
    if sections.len() > 1 {
        out.push_str("<nav><ul>");
        for (anchor, title) in sections {
            let _ = write!(out, "<li><a href=\"#{}\">{}</a></li>", escape(anchor), escape(title));
        }
        out.push_str("</ul></nav>\n");
    }
    let mut open = false;
    for block in &document.blocks {
        if let Block::Section(anchor, title) = block {
            if open {
                out.push_str("</section>\n");
            }
            open = true;
            let _ =
                writeln!(out, "<section id=\"{}\">\n<h2>{}</h2>", escape(anchor), escape(title));
            continue;
        }
        self::block(&mut out, block);
    }
    if open {
        out.push_str("</section>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn block(out: &mut String, block: &Block) {
    let _ = match block {
        Block::Section(..) => Ok(()),
        Block::Heading(title) => writeln!(out, "<h3>{}</h3>", escape(title)),
        Block::Text(text) => writeln!(out, "<p>{}</p>", line(text)),
        Block::Verdict(mark, text) => {
            writeln!(
                out,
                "<p class=\"verdict {}\">{} {}</p>",
                class(*mark),
                badge(*mark, mark.word()),
                line(text)
            )
        }
        Block::List(lines) => {
            let items: Vec<String> =
                lines.iter().map(|l| format!("<li>{}</li>", line(l))).collect();
            writeln!(out, "<ul>{}</ul>", items.concat())
        }
        Block::Table(table) => {
            let figures = |i: usize| {
                matches!(table.rows.first().and_then(|row| row.get(i)), Some(Cell::Figure(_)))
            };
            out.push_str("<div class=\"scroll\"><table><thead><tr>");
            for (i, head) in table.head.iter().enumerate() {
                let class = if figures(i) { " class=\"figure\"" } else { "" };
                let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(head));
            }
            out.push_str("</tr></thead><tbody>\n");
            for row in &table.rows {
                let cells: Vec<String> = row.iter().map(cell).collect();
                let _ = writeln!(out, "<tr>{}</tr>", cells.concat());
            }
            writeln!(out, "</tbody></table></div>")
        }
        Block::Code(_, text) => {
            writeln!(out, "<pre><code>{}</code></pre>", escape(text.trim_end()))
        }
        Block::Plot(plot) => writeln!(
            out,
            "<figure>{}<figcaption>{}</figcaption></figure>",
            plot.svg(),
            escape(plot.caption())
        ),
        Block::Source(text) => writeln!(out, "<p class=\"source\">Source: {}</p>", escape(text)),
    };
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Line(text) => format!("<td>{}</td>", line(text)),
        Cell::Figure(text) => format!("<td class=\"figure\">{}</td>", escape(text)),
        Cell::Mark(mark, word) => format!("<td>{}</td>", badge(*mark, word)),
    }
}

fn badge(mark: Mark, word: &str) -> String {
    format!("<span class=\"badge {}\">{word}</span>", class(mark))
}

fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Info => "info",
        Mark::Warning => "warning",
        Mark::Bad => "bad",
    }
}

fn line(line: &Line) -> String {
    let mut out = String::new();
    for span in &line.0 {
        let _ = match span {
            Span::Text(text) => write!(out, "{}", escape(text)),
            Span::Code(text) => write!(out, "<code>{}</code>", escape(text)),
            Span::Strong(text) => write!(out, "<strong>{}</strong>", escape(text)),
        };
    }
    out
}

/// For text and for attributes in double quotes. Characters that HTML does not have become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::document::{Table, figure, name};
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
