//! The command as a person's shell runs it, on a cloud without machines.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The variable is taken from the environment of nobody but the test.
fn drover_local(dir: Option<&Path>, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-local"));
    command.args(words).env_remove("DROVER_LOCAL_DIR").envs(dir.map(|dir| ("DROVER_LOCAL_DIR", dir)));
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    drover_local(Some(dir), words).output().expect("the command runs")
}

/// A cloud that is up, killed at the latest when the test ends.
struct Up(Child);

impl Up {
    fn start(dir: &Path) -> Up {
        let words = ["up", "--no-machines", "--ec2-port", "0", "--s3-port", "0", "--speed", "1000"];
        let mut up = Up(drover_local(Some(dir), &words).stdout(Stdio::piped()).spawn().expect("the command runs"));
        let ready = up.first_line();
        assert!(ready.starts_with("drover-local is ready"), "{ready}");
        assert!(dir.join("ready.json").exists(), "it lives where the variable says");
        up
    }

    /// It is written when the cloud is ready.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.take().expect("a pipe that nobody took yet");
        BufReader::new(stdout).read_line(&mut line).expect("a line of text");
        line
    }

    /// As a crash does.
    fn kill(mut self) {
        self.0.kill().expect("a child of ours");
        self.0.wait().expect("a child of ours");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_command_finds_the_directory_that_env_exports() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("cloud");
    let _up = Up::start(&home);
    let listed = run(&home, &["machines"]);
    assert!(listed.status.success(), "{}", said(&listed));
    let elsewhere = dir.path().join("elsewhere");
    let named = run(&home, &["--dir", elsewhere.to_str().unwrap(), "machines"]);
    assert!(!named.status.success() && said(&named).contains("elsewhere"), "--dir wins: {}", said(&named));
    let ended = run(&home, &["down"]);
    assert!(ended.status.success() && !home.exists(), "{}", said(&ended));
}

#[test]
fn what_env_prints_is_read_by_a_shell_whatever_the_directory_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("it's $HOME");
    let _up = Up::start(&home);
    let exports = String::from_utf8(run(&home, &["env"]).stdout).unwrap();
    let script = format!("{exports}\nprintf '%s %s' \"$AWS_REGION\" \"$DROVER_LOCAL_DIR\"");
    let shell = Command::new("sh").args(["-euc", &script]).output().unwrap();
    assert_eq!(said(&shell), format!("local-1 {}", home.canonicalize().unwrap().display()));
}

#[test]
fn env_names_no_cloud_that_a_crash_ended() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("cloud");
    Up::start(&home).kill();
    assert!(home.join("ready.json").exists(), "a crash takes nothing back");
    let env = run(&home, &["env"]);
    assert!(!env.status.success() && env.stdout.is_empty(), "{}", said(&env));
    assert!(said(&env).contains("nothing is up"), "{}", said(&env));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how fast a loop turns is what is measured")]
fn a_cloud_without_descriptors_does_not_spin_and_goes_on_when_it_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("cloud");
    let script = format!(
        "ulimit -n 64; exec '{}' --dir '{}' up --no-machines --ec2-port 0 --s3-port 0",
        env!("CARGO_BIN_EXE_drover-local"),
        home.display()
    );
    let started = Command::new("bash").args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut up = Up(started.unwrap());
    let ready = up.first_line();
    let address = ready.split_once("http://").unwrap().1.split(',').next().unwrap();
    let clients: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let lines = BufReader::new(up.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut refusals = lines.filter(|line| line.contains("could not be accepted"));
    refusals.next().unwrap();
    let first = Instant::now();
    assert_eq!(refusals.by_ref().take(10).count(), 10);
    assert!(first.elapsed() >= Duration::from_millis(400), "ten attempts in {:?}", first.elapsed());
    drop(clients);
    // What it still says must go somewhere.
    let rest = std::thread::spawn(move || refusals.count());
    let listed = run(&home, &["machines"]);
    assert!(listed.status.success(), "{}", said(&listed));
    up.kill();
    rest.join().unwrap();
}
