//! Which format a scraper gets, from its `Accept` header.
//!
//! Must not: refuse a scrape; who asks for nothing that is here gets the text format.

/// A format of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Delimited `io.prometheus.client.MetricFamily`: the one with native histograms.
    Protobuf,
}

impl Format {
    /// All formats, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// Name, as a label value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::OpenMetrics => "openmetrics",
            Self::Protobuf => "protobuf",
        }
    }
}

/// A format, and what to call it in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The format.
    pub format: Format,
    /// Value of `Content-Type`; Prometheus 3 refuses a target that sends none.
    pub content_type: &'static str,
}

const TEXT: Choice =
    Choice { format: Format::Text, content_type: "text/plain; version=0.0.4; charset=utf-8" };
const OPEN_METRICS: Choice = Choice {
    format: Format::OpenMetrics,
    content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};
/// The draft; what we write is the same in both.
const OPEN_METRICS_DRAFT: Choice = Choice {
    format: Format::OpenMetrics,
    content_type: "application/openmetrics-text; version=0.0.1; charset=utf-8",
};
const PROTOBUF: Choice = Choice {
    format: Format::Protobuf,
    content_type: "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                   encoding=delimited",
};

/// The offered format of the highest weight, the first of several. `accept` is each value of the
/// header.
pub fn choose<'a>(accept: impl IntoIterator<Item = &'a str>) -> Choice {
    let mut best = (0.0, TEXT);
    for range in accept.into_iter().flat_map(|value| value.split(',')) {
        if let Some((weight, choice)) = offered(range)
            && weight > best.0
        {
            best = (weight, choice);
        }
    }
    best.1
}

/// Weight and format of one media range, `None` where there is nothing for it.
fn offered(range: &str) -> Option<(f32, Choice)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?.to_ascii_lowercase();
    let (mut weight, mut version, mut proto, mut encoding) = (1.0, None, None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.parse::<f32>().ok()?,
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            // `charset`, and `escaping`: our names need none.
            _ => {}
        }
    }
    let choice = match media_type.as_str() {
        "application/vnd.google.protobuf"
            if proto == Some("io.prometheus.client.MetricFamily")
                && encoding == Some("delimited") =>
        {
            PROTOBUF
        }
        "application/openmetrics-text" => match version {
            None | Some("1.0.0") => OPEN_METRICS,
            Some("0.0.1") => OPEN_METRICS_DRAFT,
            Some(_) => return None,
        },
        "text/plain" if matches!(version, None | Some("0.0.4")) => TEXT,
        "text/*" | "*/*" => TEXT,
        _ => return None,
    };
    Some((weight, choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &str) -> Format {
        choose([accept]).format
    }

    #[test]
    fn prometheus_gets_what_it_prefers() {
        // 2.42 as it comes, and with --enable-feature=native-histograms.
        let text = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                    version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(choose([text]), OPEN_METRICS);
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                      encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(choose([native]), PROTOBUF);
        // 3.5 as it comes, and with PrometheusProto first.
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(choose([three]), OPEN_METRICS);
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=delimited;escaping=underscores;q=0.6";
        assert_eq!(choose([proto, three]), PROTOBUF);
        // With scrape_protocols of the text formats only.
        assert_eq!(choose(["text/plain;version=0.0.4;q=0.5,*/*;q=0.4"]), TEXT);
        assert_eq!(choose(["application/openmetrics-text;version=0.0.1"]), OPEN_METRICS_DRAFT);
    }

    #[test]
    fn weights_decide_then_the_order() {
        assert_eq!(format("text/plain;q=0.9, application/openmetrics-text;q=0.8"), Format::Text);
        assert_eq!(format("text/plain, application/openmetrics-text"), Format::Text);
        assert_eq!(
            format("application/openmetrics-text; version=\"1.0.0\" , text/plain"),
            Format::OpenMetrics
        );
        assert_eq!(format("Application/OpenMetrics-Text; Q=0.9, */*; q=0.1"), Format::OpenMetrics);
    }

    #[test]
    fn whoever_asks_for_nothing_that_is_here_gets_text() {
        assert_eq!(choose([]), TEXT);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8";
        for other in [
            "",
            browser,
            ";;==,;q=",
            "application/json",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;q=much",
            "application/openmetrics-text;version=2.0.0",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf",
        ] {
            assert_eq!(choose([other]), TEXT, "{other}");
        }
    }
}
