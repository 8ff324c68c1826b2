//! What a command prints. Whoever reads it may have enough before the end, as `head` has: that is no mistake of the command, and neither
//! what it does nor its exit code changes by it. A file that cannot be written is one.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// False where nobody reads any more.
pub fn print(text: impl Display) -> io::Result<bool> {
    print_to(io::stdout().lock(), text)
}

pub fn println(text: impl Display) -> io::Result<bool> {
    print(format_args!("{text}\n"))
}

fn print_to(mut out: impl Write, text: impl Display) -> io::Result<bool> {
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_told_apart_from_a_disk_that_is_full() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        assert!(!print_to(&writer, "one line").expect("nobody reads"));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a file on a full disk");
        let error = print_to(full, "one line").expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
