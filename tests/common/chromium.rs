//! A real Chromium without a window, one for all pages of a test: it is spoken to over a pipe, so that no port is
//! open and no client library is needed.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// It starts within seconds; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// One browser with one tab.
pub struct Chromium {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    next: u64,
    /// Events that came while an answer was awaited.
    events: VecDeque<Value>,
    _profile: TempDir,
}

/// How a page is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub dark: bool,
    pub script: bool,
    pub print: bool,
}

/// What a page did while it was loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Addresses that were asked for.
    pub asked: Vec<String>,
    /// What stood in the console: errors of scripts, violations of the policy, what was not found.
    pub said: Vec<String>,
}

impl Chromium {
    /// Starts it.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is spoken on 3 and 4.
        let script = "exec chromium \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh", "--headless", "--no-sandbox", "--disable-gpu"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--no-first-run", "--disable-extensions", "--remote-debugging-pipe"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Chromium is needed: scripts/deps test installs it");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let output = BufReader::new(output);
        let (events, session) = (VecDeque::new(), None);
        let mut chromium =
            Self { _child: child, input, output, session, next: 0, events, _profile: profile };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = chromium.call("Target.attachToTarget", attach).await;
        chromium.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Network", "Log", "Runtime"] {
            chromium.call(&format!("{domain}.enable"), json!({})).await;
        }
        chromium
    }

    /// One command, and its result.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.unwrap();
        self.input.flush().await.unwrap();
        loop {
            let answer = self.message().await;
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    async fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        let read = timeout(PATIENCE, self.output.read_until(0, &mut bytes)).await;
        read.expect("Chromium answers in time: scripts/deps test installs it").unwrap();
        assert_eq!(bytes.pop(), Some(0), "Chromium ended");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Sets how pages are shown from now on.
    pub async fn look(&mut self, look: Look) {
        let size = json!({
            "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 500,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({
            "media": if look.print { "print" } else { "" },
            "features": [{"name": "prefers-color-scheme", "value": scheme}],
        });
        self.call("Emulation.setEmulatedMedia", media).await;
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !look.script})).await;
    }

    /// Opens a page and waits until it is loaded.
    pub async fn open(&mut self, url: &str) -> Loaded {
        self.events.clear();
        self.call("Page.navigate", json!({"url": url})).await;
        let mut loaded = Loaded::default();
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.message().await,
            };
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    loaded.asked.push(params["request"]["url"].as_str().unwrap().to_owned());
                }
                "Log.entryAdded" => loaded.said.push(params["entry"].to_string()),
                "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => {
                    loaded.said.push(params.to_string());
                }
                "Page.javascriptDialogOpening" => panic!("a script of the data's ran: {params}"),
                "Page.loadEventFired" => return loaded,
                _ => {}
            }
        }
    }

    /// The value of an expression, once its promise is kept.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", ask).await;
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// What axe-core finds on the page that is open: rule, and the elements.
    pub async fn faults(&mut self) -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.parts/axe/axe.min.js");
        let axe = std::fs::read_to_string(path)
            .expect("axe-core is needed: scripts/deps test fetches it");
        // The tool itself counts as called from outside, so that the page's policy does not hold for it.
        self.call("Runtime.evaluate", json!({"expression": axe})).await;
        let run = "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', \
                   'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(r => r.violations.map(v => \
                   v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.html.slice(0, 200) + ' ' + n.failureSummary).join('; ')))";
        let found = self.eval(run).await;
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    /// The whole page that is open, as PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        use base64::Engine as _;
        let height = self.eval("document.documentElement.scrollHeight").await;
        let width = self.eval("document.documentElement.clientWidth").await;
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let ask = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.call("Page.captureScreenshot", ask).await;
        base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }
}
