//! What `--log-format json` writes, read as whoever collects logs reads it: a line is an object, whoever in the process wrote it.

#![allow(clippy::panic, reason = "a line that cannot be read fails the test, and is shown")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// It is killed then, its log ends, and the test fails.
const TOO_LONG: Duration = Duration::from_secs(60);

/// An S3 that has nothing, at the URL that is answered: an operator asks for its lock before it does anything else.
fn empty_s3() -> String {
    const NOTHING: &str = "<Error><Code>NoSuchKey</Code><Message>it is not there</Message></Error>";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let length = NOTHING.len();
            let answer =
                format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{NOTHING}");
            // Who does not wait for the answer has ended.
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    url
}

#[expect(clippy::disallowed_methods, reason = "PATH, for `timeout`")]
fn drover(dir: &Path, words: &[&str]) -> Command {
    let config = dir.join("drover.yaml");
    std::fs::write(&config, "realm: test\nbucket: drover\n").expect("written");
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &TOO_LONG.as_secs().to_string(), env!("CARGO_BIN_EXE_drover")]);
    command.args(["run", "--log-format", "json", "--config"]).arg(config).arg("--state").arg(dir.join("state"));
    // No API server listens at port 1, so that there is much to tell.
    let nowhere = "http://127.0.0.1:1";
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .args(words)
        .env_clear()
        .env("PATH", path)
        .env("AWS_REGION", "eu-test-1")
        .env("AWS_ENDPOINT_URL", empty_s3());
    command
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "key")
        .env("KUBECONFIG", dir.join("kubeconfig"));
    std::fs::write(
        dir.join("kubeconfig"),
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters: [{{name: test, cluster: {{server: '{nowhere}'}}}}]\n\
             users: [{{name: test, user: {{token: test}}}}]\ncontexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
        ),
    )
    .expect("written");
    command
}

/// The line as an object; what a collector sorts by is there.
fn read(line: &str) -> Value {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |field: &str| object[field].as_str().unwrap_or_else(|| panic!("no {field}: {line}"));
    assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level")), "{line}");
    assert!(text("timestamp").parse::<jiff::Timestamp>().is_ok(), "{line}");
    assert!(!text("message").is_empty() && !text("target").is_empty(), "{line}");
    object
}

#[test]
fn every_line_of_a_running_operator_is_an_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = drover(dir.path(), &["--kubernetes"]).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut told = Vec::new();
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        told.push(read(&line.expect("text")));
        // By then our own lines, with fields, and those of libraries were written.
        if told.iter().any(|line| line["reason"] == "LeaderUnknown") {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
        }
    }
    child.wait().expect("it ends");
    let from = |part: &str| told.iter().any(|line| line["target"].as_str().is_some_and(|it| it.starts_with(part)));
    assert!(from("drover_control") && from("kube_client"), "{told:?}");
    assert!(told.iter().any(|line| line["reason"] == "LeaderUnknown" && line["why"].is_string()), "{told:?}");
}

#[test]
fn a_mistake_that_ends_the_operator_is_an_object_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = drover(dir.path(), &["--manifests", "/nowhere"]).output().expect("it starts");
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    let lines: Vec<Value> = text.lines().map(read).collect();
    let last = lines.last().expect("a line");
    assert_eq!(last["level"], "ERROR", "{text}");
    assert!(last["message"].as_str().is_some_and(|message| message.contains("--manifests")), "{text}");
}
