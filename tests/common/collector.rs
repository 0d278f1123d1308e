//! Collectors of the tests' own, for whoever runs collectors.
//!
//! Must not: be of use outside tests.

/// A collector that reads one text, and counts its runs in a gauge with the text as label: its name, scope,
/// milliseconds between two runs, query, and what else it does when it derives.
#[allow(unused_macros, reason = "each test binary uses a part of it")]
macro_rules! collector {
    ($name:ident, $scope:expr, $every:expr, $sql:literal) => {
        $crate::common::collector::collector!($name, $scope, $every, $sql, |_| ());
    };
    ($name:ident, $scope:expr, $every:expr, $sql:literal, $derive:expr) => {
        #[allow(non_camel_case_types, reason = "its name is its label")]
        struct $name;

        impl ::pgrunway::collector::Collector for $name {
            type Rows = String;
            type State = f64;
            const NAME: &'static str = stringify!($name);
            const HELP: &'static str = "A collector of the test.";
            const SCOPE: ::pgrunway::collector::Scope = $scope;
            const INTERVAL: ::std::time::Duration = ::std::time::Duration::from_millis($every);
            const METRICS: &'static [&'static ::pgrunway::metric::Metric] = {
                static RUNS: ::pgrunway::metric::Metric = ::pgrunway::metric::Metric::gauge(
                    concat!("pg_", stringify!($name)),
                    &["answer"],
                    "Runs.",
                );
                &[&RUNS]
            };

            async fn fetch(
                &self,
                session: &::pgrunway::pg::Session,
                _: &f64,
            ) -> Result<String, ::pgrunway::error::CollectError> {
                let sql = concat!("SELECT x.answer FROM (", $sql, ") x(answer)");
                session.read(sql).await?[0].get("answer")
            }

            fn derive(&self, state: &mut f64, rows: String, sink: &mut ::pgrunway::metric::Sink) {
                *state += 1.0;
                #[allow(clippy::redundant_closure_call, reason = "one shape for all")]
                ($derive)(*state);
                sink.number(Self::METRICS[0], &[&rows], *state);
            }
        }
    };
}
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub(crate) use collector;
