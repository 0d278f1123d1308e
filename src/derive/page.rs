//! How rows and index entries lie on a page: what the estimates of tables and of B-trees share.
//!
//! Must not: know which of the two it serves.

/// `MAXALIGN` on all platforms that matter, bytes.
pub(in crate::derive) const ALIGN: f64 = 8.0;
/// `PageHeaderData`, bytes.
pub(in crate::derive) const PAGE_HEADER: f64 = 24.0;
/// `ItemIdData`, one a row or an entry, bytes.
pub(in crate::derive) const LINE_POINTER: f64 = 4.0;

/// Bytes, up to the next multiple.
pub(in crate::derive) fn aligned(bytes: f64, to: f64) -> f64 {
    if to > 1.0 { (bytes / to).ceil() * to } else { bytes }
}
