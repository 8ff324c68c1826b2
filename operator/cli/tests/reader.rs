//! What a command does where whoever reads it has left.

use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_enough_ends_no_command_with_an_error() {
    for words in ["crd", "iam-policy --for operator --realm test --bucket records --profile-role db"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.args(words.split(' ')).env_clear().stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().expect("started");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
        assert!(output.status.success(), "{words}: {}", output.status);
    }
}
