//! How many pages a B-tree would have if it were built anew, estimated from the statistics.
//!
//! The estimate is that of the queries that check_postgres and pgsql-bloat-estimation made known: a
//! tuple is its header and the average width of its columns, each aligned, and a page holds as many as
//! the fill factor allows. Deduplication and the alignment between columns are left out.
//!
//! Must not: call the difference to the real size exact.

use crate::derive::page::{ALIGN, LINE_POINTER, PAGE_HEADER, aligned};

/// One column of an index as it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BtreeColumn {
    /// Average bytes of those that are not null.
    pub width: f64,
    /// Share of rows where it is null, 0 to 1.
    pub null_fraction: f64,
}

/// `BTPageOpaqueData`.
const OPAQUE: f64 = 16.0;
/// `IndexTupleData`, and with the bitmap of nulls behind it.
const TUPLE_HEADER: f64 = 8.0;
const BITMAP: f64 = 4.0;

/// Estimated pages of a B-tree of `rows` entries, its metapage and inner pages included. `fill` is the fill
/// factor, 0 to 1. `None` where a number makes no sense.
pub fn btree_pages(rows: f64, columns: &[BtreeColumn], block_size: f64, fill: f64) -> Option<f64> {
    let nulls = columns.iter().any(|c| c.null_fraction > 0.0);
    let header = if nulls { TUPLE_HEADER + BITMAP } else { TUPLE_HEADER };
    let data: f64 = columns.iter().map(|c| c.width * (1.0 - c.null_fraction)).sum();
    let tuple = aligned(header, ALIGN) + aligned(data, ALIGN) + LINE_POINTER;
    let room = (block_size - PAGE_HEADER - OPAQUE) * fill;
    let each = (room / tuple).floor();
    let sound = rows.is_finite() && rows >= 0.0 && data.is_finite() && data >= 0.0;
    if !sound || !each.is_finite() || each < 2.0 {
        return None;
    }
    let mut level = (rows / each).ceil().max(1.0);
    let mut pages = 1.0 + level;
    while level > 1.0 {
        level = (level / each).ceil();
        pages += level;
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(width: f64) -> BtreeColumn {
        BtreeColumn { width, null_fraction: 0.0 }
    }

    /// `CREATE INDEX` on 1,000,000 distinct integers: 2,745 pages on every version.
    #[test]
    fn a_new_index_of_integers_has_the_pages_that_postgresql_gives_it() {
        let pages = btree_pages(1_000_000.0, &[column(4.0)], 8192.0, 0.9).unwrap_or_default();
        assert!((2745.0 - pages).abs() < 30.0, "{pages}");
    }

    #[test]
    fn what_makes_no_sense_has_no_estimate() {
        assert_eq!(btree_pages(f64::NAN, &[column(4.0)], 8192.0, 0.9), None);
        assert_eq!(btree_pages(-1.0, &[column(4.0)], 8192.0, 0.9), None);
        assert_eq!(btree_pages(10.0, &[column(8000.0)], 8192.0, 0.9), None);
        assert_eq!(btree_pages(0.0, &[column(4.0)], 8192.0, 0.9), Some(2.0));
    }

    proptest! {
        #[test]
        fn more_rows_or_wider_columns_never_need_fewer_pages(
            rows in 0u32..10_000_000, more in 0u32..1_000_000, width in 1u32..500, wider in 0u32..500,
        ) {
            let pages = |rows: u32, width: u32| {
                btree_pages(f64::from(rows), &[column(f64::from(width))], 8192.0, 0.9)
            };
            let least = pages(rows, width);
            prop_assert!(least <= pages(rows + more, width));
            prop_assert!(least <= pages(rows, width + wider));
        }
    }
}
