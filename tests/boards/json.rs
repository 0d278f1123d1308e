//! Classic dashboard JSON, as Grafana 10 to 13 import it, from a [`Board`].
//!
//! Must not: know what any panel is about.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Annotation, Board, Column, Common, Kind, Panel, Query};

/// The version of the format that Grafana 10.0 writes; later ones migrate it.
const SCHEMA: u32 = 38;
/// Widths of columns with a label, in pixels; those of others are what is left.
const WIDTHS: &[(&str, u32)] = &[("instance", 145), ("datname", 95), ("schemaname", 95)];
/// Servers and poolers.
const UP: &str = "__name__=~\"pg_up|pgbouncer_up\"";
const TAG: &str = "pgrunway";
const WIDTH: usize = 24;
/// Names of the series that are drawn as thresholds.
const LINES: &str = "/^(objective|required|limit)/";
/// What a link within the dashboards carries along.
const KEPT: &str = "${datasource:queryparam}&${job:queryparam}";
const TIME: &str = "${__url_time_range}";

/// Writes out what a query leaves out: selectors and definitions.
struct Writer<'a> {
    common: &'a Common,
    define: BTreeMap<&'a str, &'a str>,
    /// Whether the dashboard has the variable `table`; if not, its tables are those of its databases.
    tables: bool,
}

impl Writer<'_> {
    fn expr(&self, text: &str) -> String {
        let mut out = text.trim().to_owned();
        // A definition may use others.
        for _ in 0..5 {
            for (name, meaning) in &self.define {
                out = out.replace(&format!("<{name}>"), meaning.trim());
            }
        }
        let server = "job=~\"$job\", instance=~\"$instance\"";
        let database = format!("{server}, datname=~\"$database\"");
        let table = if self.tables { ", relname=~\"$table\"" } else { "" };
        out.replace("@table", &format!("{database}{table}"))
            .replace("@statement", &format!("{database}, queryid=~\"$queryid\""))
            .replace("@database", &database)
            .replace("@pool", &format!("{server}, database=~\"$database\""))
            .replace("@server", server)
    }

    fn runbook(&self, name: &str) -> String {
        format!("{}{name}.md", self.common.runbooks)
    }
}

/// The whole dashboard.
pub fn dashboard(uid: &str, board: &Board, common: &Common) -> Value {
    let define = common.define.iter().chain(&board.define);
    let writer = Writer {
        common,
        define: define.map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        tables: board.tables.is_some(),
    };
    let (mut panels, mut id) = (Vec::new(), 0);
    // How far down each column of the grid is filled.
    let mut filled = [0; WIDTH];
    for panel in &board.panels {
        let [w, h] = if panel.kind == Kind::Row { [WIDTH, 1] } else { panel.size.unwrap() };
        let (x, y) = place(&filled, w);
        filled[x..x + w].fill(y + h);
        id += 1;
        let mut json = writer.panel(panel);
        json["id"] = json!(id);
        json["gridPos"] = json!({"x": x, "y": y, "w": w, "h": h});
        panels.push(json);
    }
    let mut annotations = vec![json!({
        "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": true,
        "hide": true, "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts",
        "type": "dashboard",
    })];
    annotations.extend(common.annotations.iter().map(|a| writer.annotation(a)));
    json!({
        "uid": uid, "title": format!("pgrunway / {}", board.title), "description": board.about,
        "tags": ["postgresql", TAG], "schemaVersion": SCHEMA, "version": 1, "editable": true,
        "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
        "timepicker": {}, "timezone": "browser", "weekStart": "", "fiscalYearStartMonth": 0,
        "liveNow": false,
        "links": [
            {"type": "dashboards", "title": "pgrunway", "tags": [TAG], "asDropdown": false,
             "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
             "tooltip": "", "url": ""},
            {"type": "link", "title": "Runbooks", "tags": [], "asDropdown": false,
             "includeVars": false, "keepTime": false, "targetBlank": true, "icon": "doc",
             "tooltip": "What to do about each alert", "url": common.runbooks},
        ],
        "annotations": {"list": annotations},
        "templating": {"list": variables(board)},
        "panels": panels,
    })
}

/// The highest place that is `width` wide, the leftmost of those.
fn place(filled: &[usize], width: usize) -> (usize, usize) {
    let windows = filled.windows(width).enumerate();
    let tops = windows.map(|(x, columns)| (*columns.iter().max().unwrap(), x));
    let (y, x) = tops.min().unwrap();
    (x, y)
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn variables(board: &Board) -> Vec<Value> {
    let query = |name: &str, label: &str, query: String| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": source(),
            "definition": query, "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
            "multi": true, "includeAll": true, "allValue": ".*", "hide": 0, "regex": "",
            "skipUrlSync": false, "options": [],
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        })
    };
    let server = "job=~\"$job\", instance=~\"$instance\"";
    let mut all = vec![
        json!({
            "name": "datasource", "label": "Data source", "type": "datasource",
            "query": "prometheus", "refresh": 1, "multi": false, "includeAll": false, "current": {},
            "hide": 0, "regex": "", "skipUrlSync": false, "options": [],
        }),
        query("job", "Job", format!("label_values({{{UP}}}, job)")),
        query("instance", "Instance", format!("label_values({{{UP}, job=~\"$job\"}}, instance)")),
        query(
            "database",
            "Database",
            format!("label_values(pgrunway_database_up{{{server}}}, datname)"),
        ),
    ];
    if let Some(metric) = &board.tables {
        let labels = format!("{{{server}, datname=~\"$database\"}}");
        all.push(query("table", "Table", format!("label_values({metric}{labels}, relname)")));
    }
    if let Some(metric) = &board.statements {
        let labels = format!("{{{server}, datname=~\"$database\"}}");
        all.push(query("queryid", "Statement", format!("label_values({metric}{labels}, queryid)")));
    }
    all
}

/// `green 0.8 orange 0.95 red`: the first colour holds below the first number.
fn steps(text: &str) -> Value {
    let mut words = text.split_whitespace();
    let mut steps = vec![json!({"color": words.next().unwrap_or("text"), "value": null})];
    while let (Some(value), Some(color)) = (words.next(), words.next()) {
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        steps.push(json!({"color": color, "value": value}));
    }
    json!({"mode": "absolute", "steps": steps})
}

fn words(words: &BTreeMap<String, String>) -> Value {
    let mut all = Vec::new();
    for (index, (value, word)) in words.iter().enumerate() {
        let (text, color) =
            word.split_once('/').map_or((word.as_str(), None), |(t, c)| (t, Some(c)));
        let mut result = json!({"text": text, "index": index});
        if let Some(color) = color {
            result["color"] = json!(color);
        }
        all.push(match value.strip_prefix('>') {
            Some(from) => json!({"type": "range", "options":
                {"from": from.parse::<f64>().unwrap(), "to": null, "result": result}}),
            None => json!({"type": "value", "options": {value: result}}),
        });
    }
    json!(all)
}

/// A query of statements with their text, of which one is enough where two users have a statement.
fn with_text(query: &str) -> String {
    let query = query.trim();
    format!(
        "label_replace(label_replace(\n{query}\n* on (instance, datname, queryid) group_left (query) \
         topk by (instance, datname, queryid) (1, pg_statement_info{{@database}})\n\
         or on (instance, datname, queryid)\n{query},\n\
         \"text\", \"$1\", \"queryid\", \"(.*)\"), \"text\", \"$1\", \"query\", \"(?s)(.{{1,60}}).*\")"
    )
}

fn by_name(name: &str, properties: Vec<Value>) -> Value {
    json!({"matcher": {"id": "byName", "options": name}, "properties": properties})
}

fn fixed(color: &str) -> Value {
    json!({"id": "color", "value": {"mode": "fixed", "fixedColor": color}})
}

impl Writer<'_> {
    fn annotation(&self, a: &Annotation) -> Value {
        let mut json = json!({"name": a.name, "enable": true, "hide": false, "iconColor": a.color});
        match (&a.times, &a.tag) {
            (Some(times), None) => {
                json["datasource"] = source();
                json["expr"] = json!(self.expr(times));
                json["titleFormat"] = json!(a.text);
                json["useValueForTime"] = json!("on");
                json["step"] = json!("60s");
            }
            (None, Some(tag)) => {
                json["datasource"] = json!({"type": "grafana", "uid": "-- Grafana --"});
                json["target"] =
                    json!({"type": "tags", "tags": [tag], "matchAny": false, "limit": 100});
            }
            _ => panic!("{}: either times or a tag", a.name),
        }
        json
    }

    fn target(&self, index: usize, query: &str, more: Value) -> Value {
        let id = char::from(b'A' + u8::try_from(index).unwrap()).to_string();
        let mut json = json!({
            "refId": id, "datasource": source(), "expr": self.expr(query), "editorMode": "code",
            "legendFormat": "__auto", "range": false, "instant": true, "format": "time_series",
        });
        for (key, value) in more.as_object().unwrap() {
            json[key] = value.clone();
        }
        json
    }

    fn ranges(&self, queries: &[Query], format: &str) -> Vec<Value> {
        let more = |q: &Query| json!({"legendFormat": q.r#as, "range": true, "instant": false, "format": format});
        let text = |q: &Query| if q.statement { with_text(&q.q) } else { q.q.clone() };
        queries.iter().enumerate().map(|(i, q)| self.target(i, &text(q), more(q))).collect()
    }

    fn panel(&self, panel: &Panel) -> Value {
        if panel.kind == Kind::Row {
            return json!({"type": "row", "title": panel.title, "collapsed": false, "panels": []});
        }
        let mut defaults = json!({
            "unit": panel.unit, "noValue": panel.none, "mappings": words(&panel.words),
            "thresholds": steps(&panel.steps),
        });
        for (key, value) in
            [("decimals", panel.decimals.map(f64::from)), ("min", panel.min), ("max", panel.max)]
        {
            if let Some(value) = value {
                defaults[key] = json!(value);
            }
        }
        let mut json = json!({
            "title": panel.title, "description": panel.about.trim(), "datasource": source(),
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "transparent": false, "links": self.links(panel),
        });
        match panel.kind {
            Kind::Row => {}
            Kind::Stat => self.stat(panel, &mut json),
            Kind::Time => self.time(panel, &mut json),
            Kind::Table => self.table(panel, &mut json),
            Kind::Heatmap => self.heatmap(panel, &mut json),
            Kind::State => self.state(panel, &mut json),
        }
        json
    }

    fn links(&self, panel: &Panel) -> Vec<Value> {
        let details = panel.to.iter().map(|to| {
            json!({"title": format!("Details: {to}"), "targetBlank": false,
                   "url": format!("/d/pgrunway-{to}?{TIME}&${{__all_variables}}")})
        });
        let runbooks = panel.runbooks.iter().map(|name| {
            json!({"title": format!("Runbook: {name}"), "targetBlank": true,
                   "url": self.runbook(name)})
        });
        details.chain(runbooks).collect()
    }

    fn stat(&self, panel: &Panel, json: &mut Value) {
        json["type"] = json!("stat");
        let query = panel.query.as_ref().unwrap();
        let defaults = &mut json["fieldConfig"]["defaults"];
        let (mut query, mut legend, mut text) = (query.clone(), "__auto", "value");
        if let Some(bad) = &panel.bad {
            // The objective is in the data, so the judgement is in the query: the series is named
            // after it, and the name has the colour.
            let [good, fault] = panel.verdict.as_ref().unwrap();
            query = format!(
                "label_replace(({query}) and on () ({bad}), \"verdict\", \"{fault}\", \"\", \"\")\n\
                 or on ()\nlabel_replace({query}, \"verdict\", \"{good}\", \"\", \"\")"
            );
            (legend, text) = ("{{verdict}}", "value_and_name");
            defaults["color"] = json!({"mode": "fixed", "fixedColor": "green"});
            let color = panel.bad_color.as_deref().unwrap_or("red");
            json["fieldConfig"]["overrides"] = json!([by_name(fault, vec![fixed(color)])]);
        } else {
            defaults["color"] = json!({"mode": "thresholds"});
        }
        let colored = panel.bad.is_some() || !panel.steps.is_empty();
        json["targets"] = json!([self.target(0, &query, json!({"legendFormat": legend}))]);
        json["options"] = json!({
            "colorMode": if colored { "background" } else { "none" }, "graphMode": "none",
            "justifyMode": "center", "orientation": "auto", "textMode": text,
            "wideLayout": false,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
        });
    }

    fn time(&self, panel: &Panel, json: &mut Value) {
        json["type"] = json!("timeseries");
        json["targets"] = json!(self.ranges(&panel.queries, "time_series"));
        let defaults = &mut json["fieldConfig"]["defaults"];
        defaults["color"] = json!({"mode": "palette-classic"});
        defaults["custom"] = json!({
            "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
            "fillOpacity": if panel.stack { 30 } else { 0 }, "gradientMode": "none",
            "showPoints": "never", "spanNulls": false, "insertNulls": false, "pointSize": 4,
            "stacking": {"mode": if panel.stack { "normal" } else { "none" }, "group": "A"},
            "axisPlacement": "auto", "axisLabel": "", "axisColorMode": "text",
            "axisBorderShow": false, "axisCenteredZero": false, "scaleDistribution": {"type": "linear"},
            "hideFrom": {"legend": false, "tooltip": false, "viz": false},
            "thresholdsStyle": {"mode": "off"},
        });
        if let Some(soft) = panel.soft {
            defaults["custom"]["axisSoftMax"] = json!(soft);
        }
        let colors = panel.colors.iter().map(|(name, color)| match name.strip_prefix('/') {
            Some(_) => json!({"matcher": {"id": "byRegexp", "options": name},
                              "properties": [fixed(color)]}),
            None => by_name(name, vec![fixed(color)]),
        });
        let mut overrides: Vec<Value> = colors.collect();
        for query in &panel.queries {
            if let Some(lower) = &query.down_to {
                let thin = json!({"id": "custom.lineWidth", "value": 0});
                let band = [
                    json!({"id": "custom.fillBelowTo", "value": lower}),
                    json!({"id": "custom.fillOpacity", "value": 15}),
                    thin.clone(),
                ];
                overrides.push(by_name(&query.r#as, band.to_vec()));
                overrides.push(by_name(lower, vec![thin]));
            }
        }
        if panel
            .queries
            .iter()
            .any(|q| ["objective", "required", "limit"].iter().any(|line| q.r#as.starts_with(line)))
        {
            overrides.push(json!({
                "matcher": {"id": "byRegexp", "options": LINES},
                "properties": [
                    fixed("red"),
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "custom.stacking", "value": {"mode": "none", "group": "lines"}},
                ],
            }));
        }
        json["fieldConfig"]["overrides"] = json!(overrides);
        let table = !panel.legend.is_empty();
        let mut legend = json!({
            "displayMode": if table { "table" } else { "list" }, "placement": "bottom",
            "showLegend": true, "calcs": panel.legend,
        });
        // What matters is on top: the legend of many series is longer than its space.
        let names = [("lastNotNull", "Last *"), ("mean", "Mean"), ("max", "Max"), ("min", "Min")];
        if let Some((calc, name)) =
            names.iter().rev().find(|(c, _)| panel.legend.iter().any(|l| l == c))
        {
            legend["sortBy"] = json!(name);
            legend["sortDesc"] = json!(*calc != "min");
        }
        json["options"] = json!({
            "legend": legend,
            "tooltip": {"mode": "multi", "sort": "desc"},
        });
    }

    fn heatmap(&self, panel: &Panel, json: &mut Value) {
        json["type"] = json!("heatmap");
        json["targets"] = json!(self.ranges(&panel.queries, "heatmap"));
        json["fieldConfig"]["defaults"]["custom"] = json!({
            "scaleDistribution": {"type": "linear"},
            "hideFrom": {"legend": false, "tooltip": false, "viz": false},
        });
        json["options"] = json!({
            "calculate": false, "cellGap": 1, "showValue": "never",
            "cellValues": {"unit": "short", "decimals": 0},
            "color": {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange",
                      "scale": "exponential", "exponent": 0.5, "steps": 64, "reverse": false},
            "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9},
            "legend": {"show": true}, "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "show": true, "yHistogram": true, "showColorScale": false},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": panel.unit},
        });
    }

    fn state(&self, panel: &Panel, json: &mut Value) {
        json["type"] = json!("state-timeline");
        json["targets"] = json!(self.ranges(&panel.queries, "time_series"));
        let defaults = &mut json["fieldConfig"]["defaults"];
        defaults["color"] = json!({"mode": "thresholds"});
        defaults["custom"] = json!({
            "fillOpacity": 70, "lineWidth": 0, "spanNulls": false, "insertNulls": false,
            "hideFrom": {"legend": false, "tooltip": false, "viz": false},
        });
        json["options"] = json!({
            "mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "single", "sort": "none"},
        });
    }

    fn table(&self, panel: &Panel, json: &mut Value) {
        json["type"] = json!("table");
        let queries: Vec<&Column> = panel.columns.iter().filter(|c| c.q.is_some()).collect();
        let targets = queries
            .iter()
            .enumerate()
            .map(|(i, c)| self.target(i, c.q.as_ref().unwrap(), json!({"format": "table"})));
        json["targets"] = json!(targets.collect::<Vec<_>>());
        let mut hidden = json!({"Time": true, "job": true, "__name__": true});
        let (mut indexes, mut names) = (json!({}), json!({}));
        let (mut overrides, mut query) = (Vec::new(), 0);
        for (index, column) in panel.columns.iter().enumerate() {
            // Grafana names the value of an only query without its letter.
            let fields = match &column.label {
                Some(label) => vec![label.clone()],
                None => {
                    let letter = char::from(b'A' + u8::try_from(query).unwrap());
                    query += 1;
                    let mut fields = vec![format!("Value #{letter}")];
                    if queries.len() == 1 {
                        fields.push("Value".to_owned());
                    }
                    fields
                }
            };
            if column.hide {
                hidden[&fields[0]] = json!(true);
                continue;
            }
            for field in fields {
                indexes[&field] = json!(index);
                names[&field] = json!(column.name);
            }
            overrides.push(by_name(&column.name, self.column(column)));
        }
        let (descending, sort) = match panel.sort.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, panel.sort.as_str()),
        };
        assert!(panel.columns.iter().any(|c| c.name == sort), "{}: no column {sort}", panel.title);
        json["transformations"] = json!([
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": hidden,
                "indexByName": indexes, "renameByName": names}},
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": sort, "desc": descending}]}},
        ]);
        json["fieldConfig"]["defaults"]["custom"] = json!({"align": "auto", "cellOptions": {"type": "auto"}, "filterable": true, "minWidth": 70, "inspect": false});
        json["fieldConfig"]["overrides"] = json!(overrides);
        json["options"] = json!({
            "showHeader": true, "cellHeight": "sm",
            "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""},
        });
    }

    fn column(&self, column: &Column) -> Vec<Value> {
        let mut all = Vec::new();
        let mut set = |id: &str, value: Value| all.push(json!({"id": id, "value": value}));
        // Of the panel it says what an empty table means.
        set("noValue", json!("-"));
        if column.label.is_some() {
            // Or Grafana takes "15.20" for a number, and rounds a queryid.
            set("unit", json!("string"));
        } else if !column.unit.is_empty() {
            set("unit", json!(column.unit));
        }
        if let Some(decimals) = column.decimals {
            set("decimals", json!(decimals));
        }
        let usual = column.label.as_deref().and_then(|label| {
            WIDTHS.iter().find(|(name, _)| *name == label).map(|(_, width)| *width)
        });
        if let Some(width) = column.width.or(usual).filter(|w| *w > 0) {
            set("custom.width", json!(width));
        }
        if !column.words.is_empty() {
            set("mappings", words(&column.words));
        }
        if !column.steps.is_empty() {
            set("thresholds", steps(&column.steps));
        }
        if !column.steps.is_empty() || column.words.values().any(|w| w.contains('/')) {
            set("color", json!({"mode": "thresholds"}));
            set("custom.cellOptions", json!({"type": "color-text"}));
        }
        if let Some(to) = &column.to {
            let row =
                "var-instance=${__data.fields.Instance}&var-database=${__data.fields.Database}";
            let variable = match column.label.as_deref() {
                Some("queryid") => "queryid",
                _ => "table",
            };
            let url =
                format!("/d/pgrunway-{to}?{TIME}&{KEPT}&{row}&var-{variable}=${{__value.text}}");
            set("links", json!([{"title": format!("Details: {to}"), "url": url}]));
        }
        if column.runbook {
            let url = self.runbook("${__value.text}");
            set("links", json!([{"title": "Runbook", "url": url, "targetBlank": true}]));
        }
        all
    }
}
