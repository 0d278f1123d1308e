//! How many pages a table would have if it were written anew, estimated from the statistics, and a TOAST table at the
//! most.
//!
//! The estimate is that of the queries that check_postgres and pgsql-bloat-estimation made known, with the alignment
//! between columns: a row is its header, the bitmap of NULLs where there are any, and the average width of each column;
//! a page holds as many as the fill factor allows. TOAST is cut into chunks of which four fill a page; the last chunk of
//! a value is shorter, so that what is beyond a quarter of the chunks is the least that is empty.
//!
//! Must not: call the difference to the real size exact.

use super::page::{ALIGN, LINE_POINTER, PAGE_HEADER, aligned};

/// One column of a table as it is stored, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeapColumn {
    /// Average bytes of those that are not null, with their header.
    pub width: f64,
    /// Share of rows where it is null, 0 to 1.
    pub null_fraction: f64,
    /// Bytes to a multiple of which it begins.
    pub align: f64,
    /// Whether its width varies: a short one is not aligned.
    pub varies: bool,
}

/// `HeapTupleHeaderData` without the bitmap.
const ROW_HEADER: f64 = 23.0;
/// Bytes up to which a value of varying width has a header of one byte and is not aligned.
const SHORT: f64 = 127.0;
/// Chunks of TOAST on a page.
const CHUNKS: f64 = 4.0;

/// Estimated pages of a table of `rows` rows. `fill` is the fill factor, 0 to 1. `None` where a number makes no sense.
pub fn heap_pages(rows: f64, columns: &[HeapColumn], block_size: f64, fill: f64) -> Option<f64> {
    let nulls = columns.iter().any(|c| c.null_fraction > 0.0);
    // There are 1,600 columns at the most.
    let bitmap = if nulls { (columns.len() as f64 / 8.0).ceil() } else { 0.0 };
    let mut data = 0.0;
    for column in columns {
        let there = 1.0 - column.null_fraction;
        if !(column.varies && column.width <= SHORT) && there > 0.0 {
            data = aligned(data, column.align);
        }
        data += column.width * there;
    }
    let row = aligned(ROW_HEADER + bitmap, ALIGN) + aligned(data, ALIGN) + LINE_POINTER;
    let each = ((block_size - PAGE_HEADER) * fill / row).floor();
    let sound = rows.is_finite() && rows >= 0.0 && data.is_finite() && data >= 0.0;
    if !sound || !each.is_finite() || each < 1.0 {
        return None;
    }
    Some((rows / each).ceil())
}

/// The most pages that `chunks` chunks of TOAST need. `None` where it makes no sense.
pub fn toast_pages(chunks: f64) -> Option<f64> {
    (chunks.is_finite() && chunks >= 0.0).then(|| (chunks / CHUNKS).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixed(width: f64) -> HeapColumn {
        HeapColumn { width, null_fraction: 0.0, align: width.min(8.0), varies: false }
    }

    /// `CREATE TABLE AS SELECT` of 1,000,000 rows on every version: 4,425 pages of integers, 4,425 of an integer and
    /// another, 5,406 of a bigint and an integer.
    #[test]
    fn a_new_table_has_the_pages_that_postgresql_gives_it() {
        let pages = |columns: &[HeapColumn]| heap_pages(1e6, columns, 8192.0, 1.0);
        assert_eq!(pages(&[fixed(4.0)]), Some(4_425.0));
        assert_eq!(pages(&[fixed(4.0), fixed(4.0)]), Some(4_425.0));
        assert_eq!(pages(&[fixed(4.0), fixed(8.0)]), pages(&[fixed(8.0), fixed(8.0)]));
        assert_eq!(pages(&[fixed(8.0), fixed(4.0)]), Some(5_406.0));
        assert_eq!(toast_pages(9.0), Some(3.0));
    }

    #[test]
    fn what_makes_no_sense_has_no_estimate() {
        assert_eq!(heap_pages(f64::NAN, &[fixed(4.0)], 8192.0, 1.0), None);
        assert_eq!(heap_pages(-1.0, &[fixed(4.0)], 8192.0, 1.0), None);
        assert_eq!(heap_pages(10.0, &[fixed(9000.0)], 8192.0, 1.0), None);
        assert_eq!(heap_pages(0.0, &[], 8192.0, 1.0), Some(0.0));
        assert_eq!(toast_pages(-1.0), None);
    }

    proptest! {
        #[test]
        fn more_rows_or_wider_columns_never_need_fewer_pages(
            rows in 0u32..10_000_000, more in 0u32..1_000_000, width in 1u32..500, wider in 0u32..500,
        ) {
            let pages = |rows: u32, width: u32| {
                let column = HeapColumn { varies: true, align: 4.0, ..fixed(f64::from(width)) };
                heap_pages(f64::from(rows), &[fixed(8.0), column], 8192.0, 0.9)
            };
            let least = pages(rows, width);
            prop_assert!(least <= pages(rows + more, width));
            prop_assert!(least <= pages(rows, width + wider));
        }
    }
}
