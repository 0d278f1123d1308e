//! State by shape, beside the word for it.
//!
//! Must not: stand for a state without a word that says the same.

use maud::{Markup, PreEscaped, html};

/// Every shape, once a page.
pub fn symbols() -> Markup {
    PreEscaped(include_str!("assets/symbols.svg").to_owned())
}

/// A shape whose word stands beside it.
pub fn icon(name: &str) -> Markup {
    html! { svg class=(format!("g {name}")) aria-hidden="true" { use href=(format!("#i-{name}")) {} } }
}

/// A shape that stands alone, with its word for those who do not see it.
pub fn sole(name: &str, word: &str) -> Markup {
    html! {
        svg class=(format!("g {name}")) role="img" aria-label=(word) { use href=(format!("#i-{name}")) {} }
    }
}
