//! `pgrunway report`: the performance baseline as Markdown and as one self-contained HTML file.
//!
//! Must not: state a figure that was not read or measured in this run.

pub mod document;
pub mod html;
pub mod markdown;
pub mod plot;
