//! The MySQL clients that people have, and how each is told to talk to nobody but a machine of the set.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Context;
use drover_api::{digest::sha256_hex, records::Bundle};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// A client, by what it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// MySQL's own: it verifies the certificate's chain without its name, which is a slot and no address.
    MySql,
    /// MariaDB's before 11.4: where it is given a CA, it verifies the chain, and the name only on demand.
    MariaDb,
    /// MariaDB's from 11.4 on: beside a CA it insists on the name, and takes the certificate's own fingerprint instead of both.
    MariaDbPinning,
}

/// The first release that knows `ssl-fp`.
const PINNING_SINCE: (u32, u32) = (11, 4);

/// What is installed at that path; `None` where nothing is.
pub fn installed(client: &Path) -> anyhow::Result<Option<Client>> {
    match Command::new(client).arg("--version").stderr(Stdio::null()).output() {
        Ok(said) => Ok(Some(Client::of(&String::from_utf8_lossy(&said.stdout)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot run {}", client.display())),
    }
}

impl Client {
    /// By what `--version` says.
    fn of(said: &str) -> Self {
        // "mysql  Ver 15.1 Distrib 10.11.19-MariaDB, for ..."; later "mysql from 11.8.9-MariaDB, client 15.2 for ...".
        let maria = said.split([' ', ',']).find_map(|word| word.split_once("-MariaDB"));
        let Some((release, _)) = maria else { return Client::MySql };
        let mut numbers = release.split('.').map_while(|number| number.parse().ok());
        let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if release >= PINNING_SINCE { Client::MariaDbPinning } else { Client::MariaDb }
    }

    /// The lines of an option file by which the server must prove itself. `roots` is a file of the set's authority.
    pub fn tls(self, roots: &Path, bundle: &Bundle) -> anyhow::Result<String> {
        let roots = roots.display();
        Ok(match self {
            Client::MySql => format!("ssl-ca={roots}\nssl-mode=VERIFY_CA\n"),
            Client::MariaDb => format!("ssl-ca={roots}\n"),
            Client::MariaDbPinning => format!("ssl-fp={}\n", fingerprint(&bundle.certificate_pem)?),
        })
    }
}

/// SHA-256 of a certificate, as MariaDB reads it.
fn fingerprint(certificate_pem: &str) -> anyhow::Result<String> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
    Ok(sha256_hex(&certificate.context("the machine's certificate in the bucket is not PEM")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_what_it_says_of_itself() {
        for (said, client) in [
            ("/usr/bin/mysql  Ver 9.7.4-2 for Linux on x86_64 ((Debian))\n", Client::MySql),
            ("mysql  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)\n", Client::MySql),
            ("", Client::MySql),
            (
                "mysql  Ver 15.1 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64) using  EditLine wrapper\n",
                Client::MariaDb,
            ),
            ("mysql from 11.3.2-MariaDB, client 15.2 for Linux (x86_64)\n", Client::MariaDb),
            ("mysql from 11.4.2-MariaDB, client 15.2 for Linux (x86_64)\n", Client::MariaDbPinning),
            (
                "mysql from 11.8.9-MariaDB, client 15.2 for debian-linux-gnu (x86_64) using  EditLine wrapper\n",
                Client::MariaDbPinning,
            ),
        ] {
            assert_eq!(Client::of(said), client, "{said}");
        }
    }

    #[test]
    fn every_client_is_told_how_the_server_must_prove_itself() {
        // A certificate is its bytes to whoever hashes it: here the three bytes 0, 1, 2.
        let bundle = Bundle {
            write_id: drover_api::WriteId::new("write-01").expect("valid"),
            ca_pem: String::new(),
            certificate_pem: "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n".into(),
            key_pem: String::new(),
        };
        let roots = Path::new("/x/ca.pem");
        let tls = |client: Client| client.tls(roots, &bundle).expect("a certificate");
        assert_eq!(tls(Client::MySql), "ssl-ca=/x/ca.pem\nssl-mode=VERIFY_CA\n");
        assert_eq!(tls(Client::MariaDb), "ssl-ca=/x/ca.pem\n");
        assert_eq!(
            tls(Client::MariaDbPinning),
            "ssl-fp=ae4b3280e56e2faf83f414a6e3dabe9d5fbe18976544c05fed121accb85b53fc\n"
        );
        let torn = Bundle { certificate_pem: "AAEC".into(), ..bundle };
        assert!(Client::MariaDbPinning.tls(roots, &torn).is_err());
    }
}
