//! `figures!`: columns of one kind that are treated alike, each under its name and with its metric. The maths takes
//! them as an array; nobody else counts positions.
//!
//! Must not: hold figures of different kinds, which are fields of `columns!`.

use crate::metric::Metric;

/// Declares a struct of `columns!` whose fields all have one type, becomes an array and is made of one. What they are
/// read as stands after the type (`as Read`) for all of them, or after each field (`field: Read`). Where each field names the metric that it goes out as (`field => METRIC`), `METRICS` lists them in
/// the array's order.
macro_rules! figures {
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident: $kind:ty $(as $read:ty)? {
            $($(#[$field_meta:meta])* $field:ident $(: $own:ty)? $(= $column:literal)? => $metric:path),* $(,)?
        }
    ) => {
        $crate::collectors::figures::figures! {
            @declare $(#[$meta])* $vis $name [$kind $(as $read)?]
            $($(#[$field_meta])* $field $([as $own])? $([$column])?;)*
        }

        impl $name {
            /// The metrics of the figures.
            pub(crate) const METRICS: [&'static $crate::metric::Metric; Self::N] = [$(&$metric),*];

            /// Emits each under its metric; what is unknown has no sample.
            #[allow(dead_code, reason = "some go out as sums, or under conditions")]
            pub(crate) fn emit(self, labels: &[&str], sink: &mut $crate::metric::Sink) {
                for (metric, figure) in Self::METRICS.into_iter().zip(<[_; Self::N]>::from(self)) {
                    sink.number(metric, labels, figure);
                }
            }
        }
    };
    (
        $(#[$meta:meta])* $vis:vis struct $name:ident: $kind:ty $(as $read:ty)? {
            $($(#[$field_meta:meta])* $field:ident $(: $own:ty)? $(= $column:literal)?),* $(,)?
        }
    ) => {
        $crate::collectors::figures::figures! {
            @declare $(#[$meta])* $vis $name [$kind $(as $read)?]
            $($(#[$field_meta])* $field $([as $own])? $([$column])?;)*
        }
    };
    (
        @declare $(#[$meta:meta])* $vis:vis $name:ident $type:tt
        $($(#[$field_meta:meta])* $field:ident $([as $own:ty])? $([$column:literal])?;)*
    ) => {
        $crate::collectors::figures::figures! {
            @columns $(#[$meta])* $vis $name
            $($(#[$field_meta])* $field $type $([as $own])? $([$column])?;)*
        }
        $crate::collectors::figures::figures! { @array $name $type $($field)* }
    };
    (
        @columns $(#[$meta:meta])* $vis:vis $name:ident
        $($(#[$field_meta:meta])* $field:ident [$kind:ty $(as $read:ty)?] $([as $own:ty])? $([$column:literal])?;)*
    ) => {
        $crate::pg::columns! {
            $(#[$meta])*
            #[derive(Debug, Clone, Copy, Default, PartialEq)]
            $vis struct $name {
                $($(#[$field_meta])* pub $field: $kind $(as $read)? $(as $own)? $(= $column)?),*
            }
        }
    };
    (@array $name:ident [$kind:ty $(as $read:ty)?] $($field:ident)*) => {
        impl $name {
            /// How many figures there are.
            pub(crate) const N: usize = [$(stringify!($field)),*].len();
        }

        impl From<$name> for [$kind; $name::N] {
            fn from(figures: $name) -> Self {
                [$(figures.$field),*]
            }
        }

        impl From<[$kind; $name::N]> for $name {
            fn from([$($field),*]: [$kind; $name::N]) -> Self {
                Self { $($field),* }
            }
        }
    };
}
pub(crate) use figures;

/// Lists of metrics, one after the other.
pub(crate) const fn listed<const N: usize>(lists: &[&[&'static Metric]]) -> [&'static Metric; N] {
    let mut all = [lists[0][0]; N];
    let (mut count, mut list) = (0, 0);
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            all[count] = lists[list][i];
            (count, i) = (count + 1, i + 1);
        }
        list += 1;
    }
    assert!(count == N, "the lists hold another number of metrics");
    all
}
